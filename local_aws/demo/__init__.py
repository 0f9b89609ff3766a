"""`inference demo`: deploys into the local account, asks, measures, prints the published tables, destroys."""

import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from containers.serving.cpu import INT8_INSTRUCTION_SETS, instruction_sets
from local_aws import cli
from local_aws.account import ACCOUNT_ID, REGION, TIME_SCALE_VARIABLE, LocalAccount, environment_variables
from local_aws.demo import encoder, tabular
from local_aws.demo.steps import DemoError, run
from local_aws.report import FOLDER, make, print_verdicts
from local_aws.report.model import Report, ReportError
from stacks.naming import camel
from stacks.settings import Deployment, DeploymentError

DEFAULT = (encoder.WORKLOAD, tabular.WORKLOAD)
"""What a demo without arguments shows: the others install more than a gigabyte each."""
TIME_SCALE = "30"
"""The published cooldown of 500 s passes in 17 s, and the quarter of an hour before scaling in, in half a minute."""
AT_ONCE = ("--concurrency", "4")
"""Stacks that the CDK works on at a time: workloads wait for builds and containers, not for each other."""
_INSTRUCTION_SETS = {
    encoder.WORKLOAD: ("avx512_vnni",),
    "saved_model": INT8_INSTRUCTION_SETS,
}
"""One of them must be there, as the builds of INT8 models check."""
REPORT_SECONDS, REPORT_RATE = 8.0, 100.0
"""Of each load test of the report; requests a second that it sizes for."""
WORKLOADS = (encoder.WORKLOAD, tabular.WORKLOAD, "saved_model", "neuron_encoder")
"""Each is shown by the module of its name."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What to show: the workloads, the seconds measured for each variant, a report over all, and whether to keep it."""

    workloads: tuple[str, ...]
    seconds: float
    everything: bool
    keep: bool


def demo(
    state: cli.State,
    cache: cli.Cache,
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(WORKLOADS)}; without any {', '.join(DEFAULT)}")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="every workload of the deployment, and a report over all of them")
    ] = False,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    seconds: Annotated[float, typer.Option(min=1, help="measured time for each variant")] = 10.0,
    keep: Annotated[bool, typer.Option("--keep", help="leave the deployment and the local account running")] = False,
) -> None:
    """Deploys workloads into the local account, measures them and prints what was published beside it."""
    started = time.monotonic()
    try:
        settings = Deployment.named(deployment)
    except DeploymentError as error:
        cli.fail(str(error))
    if everything and workloads:
        cli.fail(f"--all is given beside {', '.join(workloads)}: give one of the two")
    enabled = list(settings.workloads.enabled)
    wanted = enabled if everything else workloads or [workload for workload in DEFAULT if workload in enabled]
    chosen = wanted if workloads else [workload for workload in wanted if not _missing(workload)]
    for workload in wanted:
        if workload in enabled and (missing := _missing(workload)):
            if workload in chosen:
                cli.fail(f"workload {workload!r} cannot be built here: {missing}")
            print(f"{workload} is left out: {missing}", file=sys.stderr)
    for workload in chosen:
        if workload not in settings.workloads.enabled:
            cli.fail(
                f"workload {workload!r} is not in {deployment}; choose from {', '.join(settings.workloads.enabled)}"
            )
    with environment_variables({TIME_SCALE_VARIABLE: os.environ.get(TIME_SCALE_VARIABLE, TIME_SCALE)}):
        account = cli.start(state, cache)
    with environment_variables(account.environment()):
        _show(account, settings, deployment, Shown(tuple(chosen), seconds=seconds, everything=everything, keep=keep))
    if keep:
        print(f'kept: eval "$(inference local env)"; the account answers at {account.endpoint_url}', file=sys.stderr)
    else:
        cli.stop(Path(account.state))
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _show(account: LocalAccount, settings: Deployment, deployment: str, shown: Shown) -> None:
    """Deploy what is shown, show it, and destroy it unless it is kept; exits where that fails."""
    logs = Path(account.state) / "logs"
    try:
        run("bootstrap", ["cdk", "bootstrap", f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], logs)
        deploy(settings, shown.workloads, deployment, logs)
        for workload in shown.workloads:
            # Imported here, since the libraries of a workload's demo come with its own extra.
            importlib.import_module(f"local_aws.demo.{workload}").show(settings, shown.seconds)
        if shown.everything:
            console = Console(width=None if sys.stdout.isatty() else 140, markup=False)
            print_verdicts(_report(settings, shown.workloads, account), console)
        if not shown.keep:
            run(
                "destroy",
                ["cdk", "destroy", "--all", "--force", *AT_ONCE, "--context", f"deployment={deployment}"],
                logs,
            )
    except KeyboardInterrupt:
        print("interrupted: stopping the local account", file=sys.stderr)
        cli.stop(Path(account.state))
        raise typer.Exit(130) from None
    except DemoError as error:
        cli.fail(f"{error}\nthe account still runs; `inference local logs`, then `inference local down`")


def _missing(workload: str) -> str:
    """Say what this machine's processor lacks to build and run a workload; empty where it lacks nothing."""
    needed = _INSTRUCTION_SETS.get(workload, ())
    if not needed or instruction_sets() & set(needed):
        return ""
    return f"INT8 needs a processor with {' or '.join(needed)}"


def _report(settings: Deployment, workloads: Sequence[str], account: LocalAccount) -> Report:
    """The report over what is deployed, in build/report; raises DemoError."""
    try:
        return make(settings, workloads, account, FOLDER, seconds=REPORT_SECONDS, rate=REPORT_RATE, p99_ms=None)
    except ReportError as error:
        raise DemoError(str(error)) from error


def deploy(settings: Deployment, workloads: Sequence[str], deployment: str, logs: Path) -> None:
    """Runs the real `cdk deploy` of the workloads' stacks and of what they stand on; raises DemoError."""
    stacks = [f"{settings.environment.capitalize()}-{camel(workload)}" for workload in workloads]
    run(
        "deploy",
        ["cdk", "deploy", *stacks, "--require-approval", "never", *AT_ONCE, "--context", f"deployment={deployment}"],
        logs,
    )
