"""Starting the local account can be interrupted at any moment."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from local_aws.account import CACHE_VARIABLE, ROOT, STATE_VARIABLE, LocalAccount
from tests.local_account import INFERENCE, inference

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
def test_ctrl_c_during_up_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    state = tmp_path / "state"
    process = subprocess.Popen(
        [*INFERENCE, "local", "up"],
        env={**os.environ, STATE_VARIABLE: str(state), CACHE_VARIABLE: str(ROOT / ".cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # When the signal arrives is the very thing that is varied here.
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    inference(state, "local", "down")
    assert not state.exists()
    assert [p.pid for p in psutil.process_iter() if str(state) in " ".join(_command(p))] == []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_status_and_env_without_an_account_are_one_clear_line(tmp_path: Path) -> None:
    for command in ("status", "env", "logs"):
        done = inference(tmp_path / "none", "local", command)
        assert done.returncode == 1
        assert "start one with `inference local up`" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_killed_supervisor_takes_its_processes_along_and_is_explained(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert inference(state, "local", "up").returncode == 0
    account = LocalAccount.read(state)
    assert account is not None
    family = psutil.Process(account.supervisor_pid).children(recursive=True)
    os.kill(account.supervisor_pid, signal.SIGKILL)
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
    told = inference(state, "local", "status")
    assert told.returncode == 1
    assert "it died, and its processes with it" in told.stdout
    assert inference(state, "local", "down").returncode == 0
    assert not state.exists()


def test_an_account_ends_with_the_process_that_it_is_said_to_belong_to(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with subprocess.Popen(["sleep", "300"]) as owner:
        assert inference(state, "local", "up", INFERENCE_LOCAL_OWNER=str(owner.pid)).returncode == 0
        account = LocalAccount.read(state)
        assert account is not None
        supervisor = psutil.Process(account.supervisor_pid)
        family = [supervisor, *supervisor.children(recursive=True)]
        owner.kill()
    _, left = psutil.wait_procs(family, timeout=30)
    assert left == []
    assert not state.exists()
