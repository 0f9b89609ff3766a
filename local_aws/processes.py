"""Child processes that cannot outlive their parent."""

import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this child when the thread that started it ends; for use as `preexec_fn`.

    Linux only. Elsewhere the caller must find and stop orphans itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        pass
    if sys.platform == "linux":
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def birth(pid: int) -> str:
    """Return an identity that tells a process from a later one with the same ID: the boot ID and start clock tick.

    Empty if there is no such process, or if the system is not Linux.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{_stat(pid)[19]}"
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat (see proc(5)), from the process state onward."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def kill_group(pid: int, grace_seconds: float) -> None:
    """Send SIGTERM to a process group, then SIGKILL if it is still running after the grace period."""
    deadline = time.monotonic() + grace_seconds
    for received in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, received)
        except (ProcessLookupError, PermissionError):
            return
        while received is signal.SIGTERM and time.monotonic() < deadline:
            if not alive(pid):
                break
            time.sleep(0.05)
