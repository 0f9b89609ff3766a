"""Whose process a local account takes for its supervisor."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from commands.main import app
from local_aws.account import LocalAccount
from local_aws.authentication.credentials import DEPLOYER, CredentialStore
from local_aws.processes import birth
from model_build.owned_folders import ACCOUNT, claim


@pytest.fixture
def somebody() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of its own group, which nobody may end but the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


def account(state: Path, pid: int, born: str) -> LocalAccount:
    if not state.exists() or not any(state.iterdir()):
        claim(state, ACCOUNT)
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


@pytest.mark.parametrize("reason", ["[/red] it failed", "[bold]not bold", "exit code [1]", "[link=http://x]y[/link]"])
def test_a_reason_with_brackets_is_printed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    made = account(tmp_path, os.getpid(), birth(os.getpid()))
    endpoint = {"endpoint": "e", "status": "Failed", "reason": reason, "variants": []}
    variant = {"name": "v", "desired": 1, "restarts": 0, "note": reason, "replicas": []}
    status = [endpoint, {**endpoint, "status": "InService", "variants": [variant]}]
    request = httpx.Request("GET", made.runtime_url)
    monkeypatch.setattr("commands.local.httpx.get", lambda *_, **__: httpx.Response(200, json=status, request=request))
    done = CliRunner().invoke(app, ["local", "status", "--state", str(tmp_path)])
    assert (done.exit_code, done.output.count(reason)) == (1, 2)
