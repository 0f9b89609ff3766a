"""`inference tune`: find the fastest settings of a serving container under load."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from commands.account import Deployment as DeploymentName
from commands.account import State, selected_account
from commands.output import console, fail
from containers.serving.cpu import available_cores
from load_tests.closed_loop import Target
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.saved_model import SavedModelKind
from load_tests.machine import machine
from load_tests.targets import deployed_workload
from load_tests.tuning import report, space
from load_tests.tuning.endpoint import EndpointBench
from load_tests.tuning.search import SLICES, Plan, Sweep, Trial, TrialFailedError, sweep
from local_aws.account import REGION
from sizing.instances import instance
from sizing.prices import PriceError, price
from stacks.naming import tuning_endpoint_name
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.hosting import ENDPOINT_NAME_LIMIT, ONLY_VARIANT
from stacks.settings.saved_model import SavedModel, SavedModelEndpoint
from stacks.settings.tensorflow_serving import TensorFlowServing

_UPDATE_MINUTES = 8
"""Approximate minutes that SageMaker takes for a new configuration; used only for the displayed estimate."""
_FAKE = (
    "measured on a fake, not on TensorFlow Serving: it reads JSON in Python, one request at a time per process, so "
    "extra processes help more than they would on TensorFlow Serving"
)


def tune(  # noqa: PLR0913 - options of the command
    state: State,
    workload: Annotated[str, typer.Argument(help="name of a saved_model workload in the deployment")],
    endpoint: Annotated[str | None, typer.Option(help="endpoint key; default: the first that can be tuned")] = None,
    deployment: DeploymentName = "dev",
    candidate: Annotated[
        list[str] | None,
        typer.Option(help='settings to try instead of the sweep, as JSON: {"inter_op_parallelism": 1}'),
    ] = None,
    clients: Annotated[
        int | None, typer.Option(min=1, help="concurrent clients in the closed loop; default: twice the vCPUs")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="seconds per closed-loop turn")] = 4.0,
    slices: Annotated[int, typer.Option(min=SLICES, help="number of closed-loop turns")] = SLICES,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests per second in the open loop")] = None,
    open_seconds: Annotated[float, typer.Option(min=1, help="duration of the open loop, in seconds")] = 10.0,
    p99_limit_ms: Annotated[
        float | None, typer.Option(min=0.1, help="P99 latency limit in the open loop, in milliseconds")
    ] = None,
    output: Annotated[Path, typer.Option(help="folder of the table, the plot and the snippet")] = Path("build/tune"),
    yes: Annotated[bool, typer.Option("--yes", help="on AWS: accept the cost of the temporary endpoint")] = False,
) -> None:
    """Try TensorFlow Serving settings on a temporary endpoint next to the deployed one; exit code 1 if none qualifies.

    Uses the running local account, or the AWS account of the environment if none is running. The temporary endpoint is
    always removed.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    try:
        deployed = deployed_workload(Deployment.named(deployment), workload)
        key, chosen = choose(deployed, endpoint)
        only = tuple(space.candidate(TensorFlowServing.model_validate_json(text)) for text in candidate or [])
        with selected_account(state) as account:
            vcpus = available_cores() if account is not None else instance(chosen.instance_type).vcpus
            plan = Plan(
                vcpus,
                clients or 2 * vcpus,
                deployed.settings.recipe.png_signature,
                slices,
                rate,
                p99_limit_ms,
                only,
            )
            if account is None and not yes:
                fail(f"{_estimate(plan, deployed.deployment.region or REGION, chosen)}; repeat with --yes to agree")
            target = Target(deployed.endpoint_name(key), ONLY_VARIANT)
            found = _run(plan, deployed, target, seconds, open_seconds)
    except ValidationError as error:
        fail("; ".join(f"candidate: {'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors()))
    except (DeploymentError, TrialFailedError, ValueError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the endpoint cannot be tuned: {error}; is the workload deployed?")
    except KeyboardInterrupt:
        print("interrupted: the tuning endpoint is removed", file=sys.stderr)
        raise typer.Exit(130) from None
    where = f"LOCAL: {machine()}" if account is not None else chosen.instance_type
    _show(found, Tuned(workload, key, target, chosen, where), output / target.endpoint)
    if account is not None:
        print(_FAKE)
    if found.best is None:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The endpoint whose settings were tried. where: machine or instance type of the measurements."""

    workload: str
    key: str
    target: Target
    endpoint: SavedModelEndpoint
    where: str


def choose(deployed: DeployedWorkload[Any], key: str | None) -> tuple[str, SavedModelEndpoint]:
    """Return the endpoint of a key, or the first on TensorFlow Serving without scaling; raise ValueError."""
    settings = deployed.settings
    if not isinstance(settings, SavedModel):
        raise ValueError(f"workload is {deployed.name!r} of kind {settings.kind}: only kind saved_model can be tuned")
    fit = [name for name, each in settings.endpoints.items() if each.tunable]
    if key is not None and key not in fit:
        raise ValueError(
            f"endpoint is {key!r}: choose one on TensorFlow Serving without scaling: {', '.join(fit) or 'none'}"
        )
    if not fit:
        raise ValueError(f"no endpoint of {deployed.name} has server tensorflow_serving and no scaling: add one")
    chosen = key or fit[0]
    name = tuning_endpoint_name(deployed.endpoint_name(chosen))
    if len(name) > ENDPOINT_NAME_LIMIT:
        raise ValueError(f"endpoint is {chosen!r}: {name!r} has more than {ENDPOINT_NAME_LIMIT} characters; shorten it")
    return chosen, settings.endpoints[chosen]


def _estimate(plan: Plan, region: str, endpoint: SavedModelEndpoint) -> str:
    trials = len(plan.only) or len(space.parallelism(plan.vcpus)) + 7
    hours = trials * _UPDATE_MINUTES / 60
    try:
        cost = f"about {hours * price(region, endpoint.instance_type).usd_per_hour:.2f} US dollars"
    except PriceError:
        cost = "at a price that is not in the table"
    return f"this runs one extra {endpoint.instance_type} for about {60 * hours:.0f} minutes, {cost}"


def _run(
    plan: Plan, deployed: DeployedWorkload[SavedModel], target: Target, seconds: float, open_seconds: float
) -> Sweep:
    kind = SavedModelKind()
    progress_console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A thread that redraws the bar would take time from the requests that are measured.
    with Progress(*columns, console=progress_console, auto_refresh=False) as progress:
        expected = len(plan.only) or len(space.parallelism(plan.vcpus)) + len(
            space.batching(TensorFlowServing(), plan.vcpus, plan.clients)
        )
        task = progress.add_task("preparing", total=expected)

        def on_start(label: str) -> None:
            progress.update(task, description=label, refresh=True)

        def on_trial(trial: Trial) -> None:
            rate = f"{trial.requests_per_second:.2f}/s, {trial.ratio:.2f} times the deployed" if trial.closed else ""
            parts = (f"{trial.candidate.label}:", rate, trial.outcome, trial.reason)
            progress.console.print(" ".join(part for part in parts if part), soft_wrap=True, highlight=False)
            progress.update(task, advance=1, refresh=True)

        bench = EndpointBench(
            target,
            # Responses of two settings are compared as masks in JSON, the format that needs no inference.py.
            kind.requests_in(deployed, "json"),
            clients=plan.clients,
            seconds=seconds,
            open_seconds=open_seconds,
            agree=kind.same_response,
            on_wait=lambda _: progress.update(task, refresh=True),
        )
        with bench:
            return sweep(plan, bench, on_trial, on_start)


def _show(found: Sweep, tuned: Tuned, folder: Path) -> None:
    title = f"{tuned.target.endpoint}: {found.plan.clients} clients; open loop {found.rate:.2f}/s. {tuned.where}"
    wide = console(180)
    wide.print(report.table(found, title))
    wide.print(report.conclusion(found))
    text = None
    if found.best is not None:
        text = report.snippet(found.best, tuned.workload, tuned.key, tuned.endpoint)
    report.write(found, folder, title=title, best_text=text)
    if text is not None:
        wide.print(f"for the deployment file:\n{text}")
    print(f"the figures, the plot and the snippet are in {folder}", file=sys.stderr)
