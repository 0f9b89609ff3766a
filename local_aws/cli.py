"""`inference local`: the local account's command line."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer
from rich.console import Console
from rich.table import Table

from local_aws.account import (
    ENGINE_VARIABLE,
    ROOT,
    Engine,
    LocalAccount,
    ProcessRecord,
    default_cache,
    default_state,
)
from local_aws.child_environment import inherited
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.podman import base_image
from local_aws.podman.engine import EngineError, require
from local_aws.podman.state import HOSTING, TASKS, remove_containers
from local_aws.private_files import create_private, make_parts_private, make_private
from local_aws.processes import alive, kill_group
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

app = typer.Typer(help="The local account: the same deployments without AWS and without Docker.", no_args_is_help=True)
State = Annotated[Path, typer.Option("--state", default_factory=default_state, help="folder of the account's state")]
Cache = Annotated[Path, typer.Option("--cache", default_factory=default_cache, help="folder that survives `down`")]


CACHE_PARTS = ("builds", "envs", "uv")
"""Folders of the cache. What is in them runs, so nobody else may write there."""
NO_RESULT = 2
"""Exit code of a command that measured nothing, where 1 says that what it measured is not good enough."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints one line on stderr and ends with that exit code."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


@app.command()
def up(
    state: State,
    cache: Cache,
    engine: Annotated[
        Engine,
        typer.Option(envvar=ENGINE_VARIABLE, help="what builds and runs images: processes here, or podman containers"),
    ] = Engine.PROCESS,
) -> None:
    """Starts the local account, or finds the one that runs."""
    account = start(state, cache, engine)
    if account.engine != engine:
        fail(f"the account in {state} runs with the engine {account.engine}: `inference local down` first", NO_RESULT)
    chosen = "" if state.absolute() == default_state() else f" --state {shlex.quote(str(state))}"
    print(f'the local account answers at {account.endpoint_url}; for your shell: eval "$(inference local env{chosen})"')


def start(state: Path, cache: Path, engine: Engine = Engine.PROCESS) -> LocalAccount:
    """Start the account and return it once it responds; reuse a running one, whatever its engine."""
    state, cache = (_plain(folder) for folder in (state, cache))
    try:
        require_claimable(state, ACCOUNT)
        make_parts_private(cache, CACHE_PARTS)
    except OSError as error:
        fail(str(error))
    account = LocalAccount.read(state)
    if account is not None and account.supervised:
        return account
    if is_marked(state, ACCOUNT):
        stop(state)
    if not (ROOT / "node_modules/aws-cdk").is_dir():
        fail("node_modules is missing: run npm ci (the scripts do)")
    try:
        emulator = environment(cache, "emulator", ROOT / "local_aws/requirements.txt")
    except EnvironmentSetupError as error:
        fail(str(error))
    if engine is Engine.PODMAN:
        _prepare_podman(cache)
    try:
        claim(state, ACCOUNT)
        make_private(state)
        make_private(state / "logs")
    except OSError as error:
        fail(str(error))
    with create_private(state / "logs/supervisor.log") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "local_aws.supervisor", str(state), str(cache), str(emulator / "bin/python")],
            cwd=ROOT,
            env={**inherited(installs=True), ENGINE_VARIABLE: engine},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _wait(supervisor, state)
    except BaseException:
        kill_group(supervisor.pid, 15)
        remove(state, ACCOUNT)
        raise


def _plain(folder: Path) -> Path:
    """Make a path absolute, without `..` and without following a link."""
    return Path(os.path.normpath(folder.absolute()))


def _prepare_podman(cache: Path) -> None:
    try:
        base = base_image.prepare(require(cache), None, lambda line: print(line, file=sys.stderr, flush=True))
    except EngineError as error:
        fail(f"{error}; the engine `process` needs none of it", NO_RESULT)
    if base.note:
        print(f"images are built from {base.note}", file=sys.stderr)


def _wait(supervisor: "subprocess.Popen[bytes]", state: Path) -> LocalAccount:
    deadline = time.monotonic() + START_SECONDS + 10
    logs: dict[str, str] = {}
    while time.monotonic() < deadline:
        for path in (state / "logs").glob("*.log"):
            logs[path.stem] = _tail(path, 3)
        account = LocalAccount.read(state)
        if account is not None:
            return account
        if supervisor.poll() is not None:
            break
        time.sleep(0.1)
    fail("the local account did not start: " + "; ".join(f"{name}: {text}" for name, text in logs.items() if text))


@app.command()
def down(state: State) -> None:
    """Stops the local account; leaves no process and no file of it."""
    stop(_plain(state))


def stop(state: Path) -> None:
    """Stop every process of the account and delete its state folder, or fail if no account made that folder."""
    try:
        require_marked(state, ACCOUNT)
    except FolderRefusedError as error:
        fail(str(error))
    account = LocalAccount.read(state)
    if account is not None and account.supervised:
        os.kill(account.supervisor_pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while account.supervised and time.monotonic() < deadline:
            time.sleep(0.1)
        if account.supervised:
            kill_group(account.supervisor_pid, 0)
    if account is not None and account.engine == Engine.PODMAN:
        remove_containers(Path(account.cache), state, HOSTING, TASKS)
    try:
        remove(state, ACCOUNT)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(f"{state} was not deleted: {error}")


@app.command()
def env(state: State) -> None:
    """Prints the shell exports that point the AWS clients and the CDK at the account."""
    account = _running(state)
    try:
        variables = account.environment()
    except KeyError as error:
        fail(f"{error.args[0]}; `inference local down`, then `inference local up`")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def _running(state: Path) -> LocalAccount:
    account = LocalAccount.read(_plain(state)) if is_marked(_plain(state), ACCOUNT) else None
    if account is None:
        fail(f"no local account in {state}; start one with `inference local up`")
    return account


@app.command()
def status(state: State) -> None:
    """Lists every process; exit code 1 when something is down."""
    account = _running(state)
    table = Table()
    for column in ("process", "pid", "state", "up", "restarts", "note"):
        table.add_column(column, overflow="fold")
    supervised = account.supervised
    healthy = supervised
    note = (
        "" if supervised else "it is gone, and with it what it ran: `inference local down`, then `up` and deploy again"
    )
    table.add_row("supervisor", str(account.supervisor_pid), "running" if supervised else "dead", "", "0", note)
    for record in _records(state):
        running = record.state == "running" and alive(record.pid)
        healthy &= running
        table.add_row(
            record.name, str(record.pid), "running" if running else record.state if supervised else "dead",
            _duration(record.started), str(record.restarts), record.note,
        )  # fmt: skip
    try:
        status = httpx.get(f"{account.runtime_url}/_local/status", auth=account.auth(), timeout=10, trust_env=False)
        endpoints = status.raise_for_status().json()
    except (httpx.HTTPError, KeyError):
        endpoints, healthy = [], False
        table.add_row("endpoints", "", "unknown", "", "", "the hosting process does not answer")
    for endpoint in endpoints:
        healthy &= endpoint["status"] == "InService"
        if endpoint["status"] != "InService":
            moving = endpoint.get("rollout")
            note = f"{moving['share']:.0%} of the requests on {moving['config']}" if moving else endpoint["reason"]
            table.add_row(endpoint["endpoint"], "", endpoint["status"], "", "", note)
        for variant in endpoint["variants"]:
            ready = [replica for replica in variant["replicas"] if replica["ready"]]
            healthy &= len(ready) >= variant["desired"]
            for replica in variant["replicas"]:
                table.add_row(
                    f"{endpoint['endpoint']}/{variant['name']}", str(replica["pid"]),
                    "running" if replica["ready"] else "starting", _duration(replica["started"]),
                    str(variant["restarts"]), variant["note"],
                )  # fmt: skip
            if not variant["replicas"]:
                table.add_row(
                    f"{endpoint['endpoint']}/{variant['name']}",
                    "",
                    "down" if variant["desired"] else "scaled to zero",
                    "",
                    str(variant["restarts"]),
                    variant["note"],
                )
    Console(width=160 if not sys.stdout.isatty() else None, markup=False).print(table)
    if not healthy:
        raise typer.Exit(1)


def _records(state: Path) -> list[ProcessRecord]:
    import json

    try:
        return [ProcessRecord(**row) for row in json.loads((state.absolute() / "processes.json").read_text())]
    except (OSError, ValueError):
        return []


def _duration(started: float) -> str:
    seconds = int(time.time() - started)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


@app.command()
def logs(
    state: State,
    name: Annotated[str, typer.Argument(help="emulator, hosting, supervisor, or a part of an endpoint's name")] = "",
    lines: Annotated[int, typer.Option(min=1, help="lines of each log")] = 40,
) -> None:
    """Prints the end of the logs whose name contains NAME."""
    _running(state)
    found = sorted(path for path in (state.absolute() / "logs").glob("*.log") if name in path.stem)
    if not found:
        fail(f"no log is named like {name!r}")
    for path in found:
        print(f"==> {path.stem} <==\n{_tail(path, lines)}")


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open(errors="replace") as file:
            return "".join(deque(file, lines)).rstrip()
    except OSError:
        return ""
