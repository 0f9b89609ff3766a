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
    """For `preexec_fn`: the kernel kills the child when the thread that started it ends.

    Linux only; elsewhere an orphan is left to the one that looks for it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A loopback TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
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
    """What tells a process from a later one of its number: the boot and the clock tick of its start, if they are known.

    Empty where there is no such process, and where the system is not Linux.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{_stat(pid)[19]}"
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """What proc(5) has of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def kill_group(pid: int, grace_seconds: float) -> None:
    """SIGTERM to a process group, then SIGKILL to what is left after the grace period."""
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
