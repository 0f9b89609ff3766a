"""`inference local`: start, inspect and stop the local account."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from commands.account import Cache, State
from commands.output import NO_RESULT, console, fail
from local_aws import lifecycle
from local_aws.account import ENGINE_VARIABLE, Engine, LocalAccount, default_state
from local_aws.lifecycle import EngineMissingError, LocalAccountError
from local_aws.processes import alive
from local_aws.status import endpoints, processes
from model_build.owned_folders import ACCOUNT, is_marked

_DIED = "it died, and its processes with it: run `inference local down`, then `inference local up`, and deploy again"
app = typer.Typer(help="The local account: the same deployments without AWS and without Docker.", no_args_is_help=True)


@app.command()
def up(
    state: State,
    cache: Cache,
    engine: Annotated[
        Engine,
        typer.Option(envvar=ENGINE_VARIABLE, help="what builds and runs images: processes, or podman containers"),
    ] = Engine.PROCESS,
) -> None:
    """Start the local account, or find the running one."""
    account = start(state, cache, engine)
    if account.engine != engine:
        fail(f"the account in {state} runs with the engine {account.engine}: `inference local down` first", NO_RESULT)
    chosen = "" if state.absolute() == default_state() else f" --state {shlex.quote(str(state))}"
    print(f'the local account answers at {account.endpoint_url}; for your shell: eval "$(inference local env{chosen})"')


def start(state: Path, cache: Path, engine: Engine = Engine.PROCESS) -> LocalAccount:
    """Start the account and return it once it responds; exit where it does not start."""
    try:
        return lifecycle.start(state, cache, engine, lambda line: print(line, file=sys.stderr, flush=True))
    except EngineMissingError as error:
        fail(str(error), NO_RESULT)
    except LocalAccountError as error:
        fail(str(error))


@app.command()
def down(state: State) -> None:
    """Stop the local account and delete its state; no process and no file of it remains."""
    stop(lifecycle.plain(state))


def stop(state: Path) -> None:
    """Stop the account; exit where it does not stop, or where no account made that folder."""
    try:
        lifecycle.stop(state)
    except LocalAccountError as error:
        fail(str(error))


@app.command()
def env(state: State) -> None:
    """Print shell exports that point AWS clients and the CDK at the account."""
    account = _running(state)
    try:
        variables = account.environment()
    except KeyError as error:
        fail(f"{error.args[0]}; `inference local down`, then `inference local up`")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def _running(state: Path) -> LocalAccount:
    folder = lifecycle.plain(state)
    account = LocalAccount.read(folder) if is_marked(folder, ACCOUNT) else None
    if account is None:
        fail(f"no local account in {state}; start one with `inference local up`")
    return account


@app.command()
def status(state: State) -> None:
    """List every process of the account; exit code 1 when something is down."""
    account = _running(state)
    table = Table()
    for column in ("process", "pid", "state", "up", "restarts", "note"):
        table.add_column(column, overflow="fold")
    healthy = _add_processes(table, account, state)
    try:
        found = endpoints(account)
    except (httpx.HTTPError, KeyError):
        found, healthy = [], False
        table.add_row("endpoints", "", "unknown", "", "", "the hosting process does not respond")
    for endpoint in found:
        healthy &= _add_endpoint(table, endpoint)
    console(160).print(table)
    if not healthy:
        raise typer.Exit(1)


def _add_processes(table: Table, account: LocalAccount, state: Path) -> bool:
    """Add the supervisor and what it runs; return whether all of it runs."""
    supervised = account.supervised
    note = "" if supervised else _DIED
    table.add_row("supervisor", str(account.supervisor_pid), "running" if supervised else "dead", "", "0", note)
    healthy = supervised
    for record in processes(state.absolute()):
        running = record.state == "running" and alive(record.pid)
        healthy &= running
        table.add_row(
            record.name, str(record.pid), "running" if running else record.state if supervised else "dead",
            _duration(record.started), str(record.restarts), record.note,
        )  # fmt: skip
    return healthy


def _add_endpoint(table: Table, endpoint: dict[str, Any]) -> bool:
    """Add an endpoint's replicas; return whether all that are wanted take requests."""
    name, in_service = endpoint["endpoint"], endpoint["status"] == "InService"
    if not in_service:
        rollout = endpoint.get("rollout")
        note = f"{rollout['share']:.0%} of the requests on {rollout['config']}" if rollout else endpoint["reason"]
        table.add_row(name, "", endpoint["status"], "", "", note)
    healthy = bool(in_service)
    for variant in endpoint["variants"]:
        healthy &= bool(sum(replica["ready"] for replica in variant["replicas"]) >= variant["desired"])
        label, restarts, note = f"{name}/{variant['name']}", str(variant["restarts"]), variant["note"]
        for replica in variant["replicas"]:
            running = "running" if replica["ready"] else "starting"
            table.add_row(label, str(replica["pid"]), running, _duration(replica["started"]), restarts, note)
        if not variant["replicas"]:
            table.add_row(label, "", "down" if variant["desired"] else "scaled to zero", "", restarts, note)
    return healthy


def _duration(started: float) -> str:
    seconds = int(time.time() - started)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


@app.command()
def logs(
    state: State,
    name: Annotated[str, typer.Argument(help="emulator, hosting, supervisor, or part of an endpoint's name")] = "",
    lines: Annotated[int, typer.Option(min=1, help="lines per log")] = 40,
) -> None:
    """Print the end of the logs whose name contains NAME."""
    _running(state)
    found = sorted(path for path in (state.absolute() / "logs").glob("*.log") if name in path.stem)
    if not found:
        fail(f"no log has {name!r} in its name")
    for path in found:
        print(f"==> {path.stem} <==\n{lifecycle.tail(path, lines)}")
