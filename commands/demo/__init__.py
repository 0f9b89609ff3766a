"""`inference demo`: deploy into the local account, invoke, measure, print the published tables, destroy."""

import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from commands.account import Cache, State
from commands.account import Deployment as DeploymentName
from commands.demo.steps import DemoError, run
from commands.local import start, stop
from commands.output import console, fail
from commands.report import FOLDER, Options, make, print_verdicts
from containers.serving.cpu import INT8_INSTRUCTION_SETS, instruction_sets
from load_tests.report.model import Report, ReportError
from load_tests.targets import deployed_workload
from local_aws.account import (
    ACCOUNT_ID,
    CONCURRENT_STACKS,
    REGION,
    TIME_SCALE_VARIABLE,
    LocalAccount,
    environment_variables,
)
from stacks.naming import camel
from stacks.settings.deployment import Deployment, DeploymentError

TIME_SCALE = "30"
"""The published cooldown of 500 s passes in 17 s, and the quarter of an hour before scaling in, in half a minute."""
REPORT = Options(seconds=8.0, rate=100.0)


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo of a kind of workload.

    module: has `show(workload, seconds, account)`. by_default: shown without being asked for; the others install more
    than a gigabyte each. instruction_sets: one of them must be there, as the builds of INT8 models check.
    """

    module: str
    by_default: bool = False
    instruction_sets: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """What this machine's processor lacks to build and run the kind; empty where it lacks nothing."""
        if not self.instruction_sets or instruction_sets() & set(self.instruction_sets):
            return ""
        return f"INT8 needs a processor with {' or '.join(self.instruction_sets)}"


DEMOS: Mapping[str, Demo] = {
    "encoder": Demo("commands.demo.encoder", by_default=True, instruction_sets=("avx512_vnni",)),
    "tabular": Demo("commands.demo.tabular", by_default=True),
    "saved_model": Demo("commands.demo.saved_model", instruction_sets=INT8_INSTRUCTION_SETS),
    "neuron_encoder": Demo("commands.demo.neuron_encoder"),
}
"""By kind. Modules are imported when they are shown, since their libraries come with an extra of their own."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What to show: the workloads, the seconds measured for each variant, a report over all, and whether to keep it."""

    workloads: tuple[str, ...]
    seconds: float
    everything: bool
    keep: bool


def demo(
    state: State,
    cache: Cache,
    workloads: Annotated[list[str] | None, typer.Argument(help="workloads; default: those that install least")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="every workload of the deployment, and a report over all of them")
    ] = False,
    deployment: DeploymentName = "dev",
    seconds: Annotated[float, typer.Option(min=1, help="measured seconds of each variant")] = 10.0,
    keep: Annotated[bool, typer.Option("--keep", help="leave the deployment and the local account running")] = False,
) -> None:
    """Deploy workloads into the local account, measure them, and print them next to the published figures."""
    started = time.monotonic()
    try:
        settings = Deployment.named(deployment)
    except DeploymentError as error:
        fail(str(error))
    if everything and workloads:
        fail(f"--all is given and so is {', '.join(workloads)}: give one of the two")
    chosen = _chosen(settings, workloads, everything=everything)
    with environment_variables({TIME_SCALE_VARIABLE: os.environ.get(TIME_SCALE_VARIABLE, TIME_SCALE)}):
        account = start(state, cache)
    with environment_variables(account.environment()):
        _show(account, settings, deployment, Shown(chosen, seconds=seconds, everything=everything, keep=keep))
    if keep:
        print(f'kept: eval "$(inference local env)"; the account answers at {account.endpoint_url}', file=sys.stderr)
    else:
        stop(Path(account.state))
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _chosen(settings: Deployment, named: list[str] | None, *, everything: bool) -> tuple[str, ...]:
    """Return the workloads to show; exit for one that was named and cannot be shown."""
    for name in named or ():
        if name not in settings.workloads:
            fail(f"workload {name!r} is not in {settings.environment}; choose from {', '.join(settings.workloads)}")
        kind = settings.workloads[name].kind
        if kind not in DEMOS:
            fail(f"workload {name!r} is of kind {kind}, which has no demo: choose one of kind {', '.join(DEMOS)}")
        if missing := DEMOS[kind].missing:
            fail(f"workload {name!r} cannot be built here: {missing}")
    if named:
        return tuple(named)
    wanted = {
        name: DEMOS[each.kind]
        for name, each in settings.workloads.items()
        if each.kind in DEMOS and (everything or DEMOS[each.kind].by_default)
    }
    for name, each in wanted.items():
        if each.missing:
            print(f"{name} is left out: {each.missing}", file=sys.stderr)
    return tuple(name for name, each in wanted.items() if not each.missing)


def _show(account: LocalAccount, settings: Deployment, deployment: str, shown: Shown) -> None:
    """Deploy what is shown, show it, and destroy it unless it is kept; exits where that fails."""
    logs = Path(account.state) / "logs"
    try:
        run("bootstrap", ["cdk", "bootstrap", f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], logs)
        deploy(settings, shown.workloads, deployment, logs)
        for name in shown.workloads:
            module = importlib.import_module(DEMOS[settings.workloads[name].kind].module)
            module.show(deployed_workload(settings, name), shown.seconds, account)
        if shown.everything:
            print_verdicts(_report(settings, shown.workloads, account), console())
        if not shown.keep:
            run(
                "destroy",
                ["cdk", "destroy", "--all", "--force", *CONCURRENT_STACKS, "--context", f"deployment={deployment}"],
                logs,
            )
    except KeyboardInterrupt:
        print("interrupted: stopping the local account", file=sys.stderr)
        stop(Path(account.state))
        raise typer.Exit(130) from None
    except DemoError as error:
        fail(f"{error}\nthe account still runs; `inference local logs`, then `inference local down`")


def _report(settings: Deployment, workloads: Sequence[str], account: LocalAccount) -> Report:
    """Return the report over what is deployed, written to build/report; raises DemoError."""
    try:
        return make(settings, workloads, account, FOLDER, REPORT)
    except ReportError as error:
        raise DemoError(str(error)) from error


def deploy(settings: Deployment, workloads: Sequence[str], deployment: str, logs: Path) -> None:
    """Run the real `cdk deploy` of the workloads' stacks and of what they depend on; raises DemoError."""
    stacks = [f"{settings.environment.capitalize()}-{camel(workload)}" for workload in workloads]
    run(
        "deploy",
        [
            *("cdk", "deploy", *stacks),
            *("--require-approval", "never"),
            *CONCURRENT_STACKS,
            "--context",
            f"deployment={deployment}",
        ],
        logs,
    )
