import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_aws.account import CACHE_VARIABLE, ROOT, STATE_VARIABLE, LocalAccount

INFERENCE = [str(Path(sys.executable).parent / "inference")]


def inference(state: Path, *arguments: str, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Runs the real command line."""
    return subprocess.run(
        [*INFERENCE, *arguments],
        env={**os.environ, STATE_VARIABLE: str(state), CACHE_VARIABLE: str(ROOT / ".cache")},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls with a deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local") / "state"


@pytest.fixture(scope="package")
def account(state: Path) -> Iterator[LocalAccount]:
    """A running local account, and the environment that points every client at it."""
    done = inference(state, "local", "up")
    assert done.returncode == 0, done.stderr
    running = LocalAccount.read(state)
    assert running is not None
    before = dict(os.environ)
    os.environ.update(running.environment())
    os.environ.pop("AWS_PROFILE", None)
    yield running
    os.environ.clear()
    os.environ.update(before)
    inference(state, "local", "down")
