"""`inference watch-scaling`: load an endpoint and show how its instances follow, live and as a plot."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from commands.account import Deployment as DeploymentName
from commands.account import State, selected_account
from commands.output import fail
from load_tests.closed_loop import Target
from load_tests.kinds import KINDS
from load_tests.targets import deployed_workload, scaling_target
from load_tests.watch_scaling import Load, Moment, NoPolicyError, Policy, read_policy, watch
from local_aws.account import TIME_SCALE_VARIABLE, LocalAccount
from stacks.settings.deployment import Deployment, DeploymentError

_ROWS = 12
_BLOCKS = " ▁▂▃▄▅▆▇█"


def watch_scaling(  # noqa: PLR0913 - options of the command
    state: State,
    workload: Annotated[str, typer.Argument(help="name of a workload in the deployment")],
    endpoint: Annotated[str | None, typer.Option(help="endpoint key; default: the first that scales")] = None,
    deployment: DeploymentName = "dev",
    clients: Annotated[int, typer.Option(min=1, help="clients, each with one request at a time")] = 4,
    pause: Annotated[float, typer.Option(min=0, help="seconds between a client's requests")] = 0.0,
    load_seconds: Annotated[float, typer.Option(min=1, help="longest time under load, in seconds")] = 300.0,
    limit_seconds: Annotated[float, typer.Option(min=1, help="longest time altogether, in seconds")] = 1800.0,
    output: Annotated[Path, typer.Option(help="folder of the plot and the figures")] = Path("build/watch-scaling"),
) -> None:
    """Load an endpoint until it has scaled out, then watch it scale in; exit code 1 unless it did both.

    For an endpoint with an inference component, it shows the component's copies, including zero copies if scaling
    allows it.

    Uses the running local account, or the AWS account of the environment if none is running. In a local account, alarms
    and cooldowns pass INFERENCE_LOCAL_TIME_SCALE times faster if it was started with that variable.
    """
    try:
        settings = Deployment.named(deployment)
        with selected_account(state) as account:
            found = deployed_workload(settings, workload)
            key, target = scaling_target(found, endpoint)
            policy = read_policy(target)
            load = Load(target, KINDS[found.settings.kind].requests(found, key), clients, pause)
            moments = show(target, policy, load, load_seconds, limit_seconds, time_scale(account))
    except (DeploymentError, NoPolicyError, ValueError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the endpoint cannot be watched: {error}; is the workload deployed?")
    print(f"the figures and the plot are in {write(target, policy, moments, output)}", file=sys.stderr)
    if not scaled(policy, moments):
        fail("the endpoint did not scale out to its maximum capacity and back: see the plot")


def time_scale(account: LocalAccount | None) -> float:
    """Return how many times faster than real time the account's alarms and cooldowns pass; 1 on AWS."""
    if account is None:
        return 1.0
    try:
        environ = Path(f"/proc/{account.supervisor_pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return 1.0
    prefix = f"{TIME_SCALE_VARIABLE}=".encode()
    return next((float(entry.removeprefix(prefix)) for entry in environ if entry.startswith(prefix)), 1.0)


def show(
    target: Target, policy: Policy, load: Load, load_seconds: float, limit_seconds: float, scale: float
) -> list[Moment]:
    """Watch with a live table on stderr, and return the moments."""
    console = Console(stderr=True, markup=False)
    if scale != 1:
        console.print(f"local account: alarms and cooldowns pass {scale:g} times faster than on AWS")
    moments: list[Moment] = []
    with Live(console=console, refresh_per_second=2, transient=not console.is_terminal) as live:

        def on_moment(moment: Moment) -> None:
            moments.append(moment)
            live.update(_table(target, policy, moments))

        return watch(
            target,
            policy,
            load,
            load_seconds=load_seconds,
            limit_seconds=limit_seconds,
            time_scale=scale,
            on_moment=on_moment,
        )


def _table(target: Target, policy: Policy, moments: Sequence[Moment]) -> Table:
    most = max(1, policy.max_capacity)
    line = "".join(_BLOCKS[round(8 * moment.current / most)] for moment in moments[-80:])
    table = Table(title=f"{target.endpoint}/{target.variant}  target {policy.target:g}  instances {line}")
    for column in ("seconds", "load", "metric per instance", "desired", "in service", "answered", "failed"):
        table.add_column(column, justify="right")
    for moment in moments[-_ROWS:]:
        table.add_row(
            f"{moment.seconds:.0f}",
            "on" if moment.loaded else "off",
            f"{moment.per_instance:.0f}",
            str(moment.desired),
            str(moment.current),
            str(moment.answered),
            str(moment.failed),
        )
    return table


def scaled(policy: Policy, moments: Sequence[Moment]) -> bool:
    """Return whether it reached the maximum capacity, and was back at the minimum at the end."""
    return max(moment.current for moment in moments) == policy.max_capacity and (
        moments[-1].current == policy.min_capacity
    )


def write(target: Target, policy: Policy, moments: Sequence[Moment], folder: Path) -> Path:
    """Write the figures as CSV and JSON, and the plot if matplotlib is installed; return the folder."""
    folder = folder / target.endpoint
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "moments.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Moment)])
        rows.writeheader()
        rows.writerows(asdict(moment) for moment in moments)
    (folder / "policy.json").write_text(json.dumps(asdict(policy), indent=2) + "\n")
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import StrMethodFormatter
    except ImportError:
        print("no plot: install the extra `saved-model`, which brings matplotlib", file=sys.stderr)
        return folder
    figure = Figure(figsize=(10, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    seconds = [moment.seconds for moment in moments]
    upper.step(seconds, [moment.desired for moment in moments], where="post", linestyle="--", label="desired")
    upper.step(seconds, [moment.current for moment in moments], where="post", label="in service")
    upper.set_ylabel("instances")
    upper.set_ylim(0, policy.max_capacity + 1)
    lower.plot(seconds, [moment.per_instance for moment in moments], label=policy.metric)
    lower.axhline(policy.target, linestyle="--", color="black", label="target")
    lower.set_ylabel("per instance")
    lower.set_xlabel("seconds")
    lower.set_yscale("symlog", linthresh=max(1.0, policy.target))
    # A count below zero means nothing, and symlog would show some.
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axes in (upper, lower):
        loaded = [moment.seconds for moment in moments if moment.loaded]
        if loaded:
            axes.axvspan(loaded[0], loaded[-1], alpha=0.1, label="under load")
        axes.legend(loc="upper right")
    upper.set_title(f"{target.endpoint}/{target.variant}")
    figure.savefig(folder / "scaling.png", dpi=110)
    return folder
