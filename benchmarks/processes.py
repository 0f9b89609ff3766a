"""Run a benchmark's processes without leaving any behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from local_aws.processes import kill_group

_GRACE_SECONDS = 10.0
_GUARD = 'cat >/dev/null; kill -s "$1" -- "$2"'
"""Sends a signal once the pipe from this process closes, which happens even on SIGKILL."""


@contextlib.contextmanager
def guarded(signal_name: str, target: str) -> Iterator[None]:
    """Send a signal when this process ends before the block does.

    target: a process's ID, or a group's with a minus sign before it.
    """
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", signal_name, target],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.communicate()


@contextlib.contextmanager
def process_group(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in its own process group, which ends with the block or with this process.

    Its output goes to `log`.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # The kernel's parent-death signal only reaches the first process, and a model server's workers outlive it.
    with guarded("KILL", f"-{process.pid}"):
        try:
            yield process
        finally:
            kill_group(process.pid, _GRACE_SECONDS)
            process.wait()


def last_lines(log: Path, count: int = 3) -> str:
    """Return the last lines of a log joined into one, for an error message."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "no output"
    return " | ".join([line.strip() for line in lines if line.strip()][-count:]) or "no output"
