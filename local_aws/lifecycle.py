"""Start and stop the local account."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from local_aws.account import ENGINE_VARIABLE, ROOT, Engine, LocalAccount
from local_aws.child_environment import inherited
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.podman import base_image
from local_aws.podman.engine import EngineError, require
from local_aws.podman.state import HOSTING, TASKS, remove_containers
from local_aws.private_files import create_private, make_parts_private, make_private
from local_aws.processes import kill_group
from local_aws.supervisor import START_SECONDS
from model_build.owned_folders import (
    ACCOUNT,
    FolderRefusedError,
    claim,
    is_marked,
    remove,
    require_claimable,
    require_marked,
)

CACHE_PARTS = ("builds", "envs", "uv")
"""Folders of the cache. What is in them runs, so nobody else may write there."""
_STOP_SECONDS = 60.0


class LocalAccountError(RuntimeError):
    """The account cannot be started or stopped; the message says why and what to do."""


class EngineMissingError(LocalAccountError):
    """The container engine asked for is not usable here."""


def plain(folder: Path) -> Path:
    """Make a path absolute, without `..` and without following a link."""
    return Path(os.path.normpath(folder.absolute()))


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a file, or nothing where it cannot be read."""
    try:
        with path.open(errors="replace") as file:
            return "".join(deque(file, lines)).rstrip()
    except OSError:
        return ""


def start(
    state: Path, cache: Path, engine: Engine = Engine.PROCESS, log: Callable[[str], None] = lambda _: None
) -> LocalAccount:
    """Start the account and return it once it responds; return a running one as it is, whatever its engine.

    log: gets lines about long preparations. Raises LocalAccountError.
    """
    state, cache = plain(state), plain(cache)
    try:
        require_claimable(state, ACCOUNT)
        make_parts_private(cache, CACHE_PARTS)
    except OSError as error:
        raise LocalAccountError(str(error)) from error
    account = LocalAccount.read(state)
    if account is not None and account.supervised:
        return account
    if is_marked(state, ACCOUNT):
        stop(state)
    if not (ROOT / "node_modules/aws-cdk").is_dir():
        raise LocalAccountError("node_modules is missing: run npm ci (the scripts do)")
    try:
        emulator = environment(cache, "emulator", ROOT / "local_aws/requirements.txt")
    except EnvironmentSetupError as error:
        raise LocalAccountError(str(error)) from error
    if engine is Engine.PODMAN:
        _prepare_podman(cache, log)
    try:
        claim(state, ACCOUNT)
        make_private(state)
        make_private(state / "logs")
    except OSError as error:
        raise LocalAccountError(str(error)) from error
    with create_private(state / "logs/supervisor.log") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "local_aws.supervisor", str(state), str(cache), str(emulator / "bin/python")],
            cwd=ROOT,
            env={**inherited(installs=True), ENGINE_VARIABLE: engine},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _wait(supervisor, state)
    except BaseException:
        kill_group(supervisor.pid, 15)
        remove(state, ACCOUNT)
        raise


def stop(state: Path) -> None:
    """Stop every process of the account and delete its state folder.

    Raises LocalAccountError, also for a folder that no account made.
    """
    try:
        require_marked(state, ACCOUNT)
    except FolderRefusedError as error:
        raise LocalAccountError(str(error)) from error
    account = LocalAccount.read(state)
    if account is not None and account.supervised:
        os.kill(account.supervisor_pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while account.supervised and time.monotonic() < deadline:
            time.sleep(0.1)
        if account.supervised:
            kill_group(account.supervisor_pid, 0)
    if account is not None and account.engine == Engine.PODMAN:
        remove_containers(Path(account.cache), state, HOSTING, TASKS)
    try:
        remove(state, ACCOUNT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalAccountError(f"{state} was not deleted: {error}") from error


def _prepare_podman(cache: Path, log: Callable[[str], None]) -> None:
    try:
        base = base_image.prepare(require(cache), None, log)
    except EngineError as error:
        raise EngineMissingError(f"{error}; the engine `process` needs none of it") from error
    if base.note:
        log(f"images are built from {base.note}")


def _wait(supervisor: "subprocess.Popen[bytes]", state: Path) -> LocalAccount:
    deadline = time.monotonic() + START_SECONDS + 10
    logs: dict[str, str] = {}
    while time.monotonic() < deadline:
        for path in (state / "logs").glob("*.log"):
            logs[path.stem] = tail(path, 3)
        account = LocalAccount.read(state)
        if account is not None:
            return account
        if supervisor.poll() is not None:
            break
        time.sleep(0.1)
    message = "; ".join(f"{name}: {text}" for name, text in logs.items() if text)
    raise LocalAccountError(f"the local account did not start: {message}")
