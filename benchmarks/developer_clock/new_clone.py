"""The README's commands in new clones: the wait for a developer who has nothing of this project yet, and after that."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from local_aws.account import ROOT

_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Commands:
    """Duration of each command in seconds.

    demo, tests: in a new clone.
    tests_again: in the same clone, with the results of the first run.
    """

    demo: float
    tests: float
    tests_again: float


def run_commands(folder: Path) -> Commands:
    """Run the commands one after another, in two clones of the last commit; raises BenchmarkError if one fails."""
    first, second = _clone(folder / "demo"), _clone(folder / "tests")
    return Commands(
        demo=_seconds("scripts/demo", first),
        tests=_seconds("scripts/test", second),
        tests_again=_seconds("scripts/test", second),
    )


def _clone(to: Path) -> Path:
    done = subprocess.run(["git", "clone", "--quiet", str(ROOT), str(to)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"git clone failed: {done.stderr.strip()[-300:]}")
    return to


def _seconds(command: str, clone: Path) -> float:
    log = clone.with_suffix(".log")
    began = time.perf_counter()
    with process_group([command], cwd=clone, environment=_environment(), log=log) as process:
        try:
            code = process.wait(_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{command} runs for over {_LONGEST_SECONDS:g} s") from None
    if code:
        raise BenchmarkError(f"{command} ended with {code}: {last_lines(log)}")
    return time.perf_counter() - began


def _environment() -> dict[str, str]:
    """Return this process's environment without references to this project's own Python environment."""
    own = (sys.prefix, str(ROOT))
    places = [place for place in os.environ.get("PATH", "").split(os.pathsep) if not place.startswith(own)]
    rest = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {**rest, "PATH": os.pathsep.join(places)}
