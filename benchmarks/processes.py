"""Processes of a benchmark that leave nothing behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from local_aws.processes import kill_group

_GRACE_SECONDS = 10.0
_GUARD = 'cat >/dev/null; kill -s KILL -- "-$1"'
"""Ends a process group once the pipe from this process closes, which it does even on SIGKILL."""


@contextlib.contextmanager
def process_group(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a process group of its own; at the end of the block, or of this process, the group ends.

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
    # The kernel's parent-death signal would reach the first process only, and a model server's workers outlive it.
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", str(process.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_group(process.pid, _GRACE_SECONDS)
        process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
        if guard.stdin is not None:
            guard.stdin.close()


def last_lines(log: Path, count: int = 3) -> str:
    """The last lines of a log in one, for an error message."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "no output"
    return " | ".join([line.strip() for line in lines if line.strip()][-count:]) or "no output"
