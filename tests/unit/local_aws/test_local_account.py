"""Whose process a local account takes for its supervisor."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local_aws.account import LocalAccount
from local_aws.authentication.credentials import DEPLOYER, CredentialStore
from local_aws.main import app
from local_aws.processes import birth
from model_build.owned_folders import claim


@pytest.fixture
def somebody() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of its own group, which nobody may end but the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


def account(state: Path, pid: int, born: str) -> LocalAccount:
    key = CredentialStore(state).issue(DEPLOYER)
    made = LocalAccount(str(state), str(state / "cache"), 1, 2, pid, born, key.access_key_id)
    made.write()
    return made


def test_an_account_is_supervised_by_the_process_that_wrote_it(tmp_path: Path) -> None:
    assert account(tmp_path, os.getpid(), birth(os.getpid())).supervised


def test_a_process_that_ended_has_no_birth_and_supervises_nothing(
    tmp_path: Path, somebody: "subprocess.Popen[bytes]"
) -> None:
    made = account(tmp_path, somebody.pid, birth(somebody.pid))
    somebody.kill()
    somebody.wait()
    assert birth(somebody.pid) == ""
    assert not made.supervised


def test_down_leaves_a_process_alone_that_got_the_number_of_a_supervisor_long_gone(
    tmp_path: Path, somebody: "subprocess.Popen[bytes]"
) -> None:
    state = tmp_path / "state"
    claim(state)
    account(state, somebody.pid, "another-boot/1")
    done = CliRunner().invoke(app, ["local", "down", "--state", str(state)])
    assert done.exit_code == 0
    assert somebody.poll() is None
    assert not state.exists()


def test_status_calls_such_an_account_dead(tmp_path: Path, somebody: "subprocess.Popen[bytes]") -> None:
    account(tmp_path, somebody.pid, "another-boot/1")
    done = CliRunner().invoke(app, ["local", "status", "--state", str(tmp_path)])
    assert done.exit_code == 1
    assert "dead" in done.output
