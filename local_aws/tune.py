"""`inference tune`: which settings of a serving container pay, found under load on the real endpoint."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from containers.serving.cpu import available_cores
from load_tests.closed_loop import Target
from load_tests.tuning import report, space
from load_tests.tuning.endpoint import EndpointBench
from load_tests.tuning.search import SLICES, Plan, Sweep, Trial, TrialFailedError, sweep
from local_aws.account import REGION, LocalAccount, default_state
from local_aws.cli import fail
from local_aws.deployed import machine
from local_aws.watch_scaling import requests_of
from sizing.instances import instance
from sizing.prices import PriceError, price
from stacks.naming import tuning_endpoint_name
from stacks.settings import ENDPOINT_NAME_LIMIT, ONLY_VARIANT, Deployment, DeploymentError, UnetEndpoint
from stacks.tensorflow_serving import TensorFlowServing

WORKLOAD = "saved_model"
_UPDATE_MINUTES = 8
"""What SageMaker takes for a new configuration, roughly; only for the estimate that is shown."""
_STAND_IN = (
    "measured on a stand-in, not on TensorFlow Serving: it reads JSON in Python, one request at a time a process, "
    "so that more processes pay more than they would there"
)


def tune(
    endpoint: Annotated[str | None, typer.Option(help="the endpoint's key; the first of its kind without it")] = None,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    candidate: Annotated[
        list[str] | None,
        typer.Option(help='settings to try, as JSON {"inter_op_parallelism": 1}; instead of the sweep'),
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="of the closed loop; twice the vCPUs without it")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="one turn of the closed loop")] = 4.0,
    slices: Annotated[int, typer.Option(min=SLICES, help="turns of the closed loop")] = SLICES,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests a second of the open loop")] = None,
    open_seconds: Annotated[float, typer.Option(min=1, help="the open loop")] = 10.0,
    p99_limit_ms: Annotated[float | None, typer.Option(min=0.1, help="choose nothing slower in the open loop")] = None,
    output: Annotated[Path, typer.Option(help="folder of the table, the plot and the snippet")] = Path("build/tune"),
    state: Annotated[Path | None, typer.Option(help="folder of the local account's state")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="on AWS: agree to what the endpoint beside costs")] = False,
) -> None:
    """Sweeps TensorFlow Serving's knobs on an endpoint beside the deployed one; exit code 1 when none is fit.

    Works on the local account that runs, or without one on the AWS account of the environment. Whatever happens, the
    endpoint beside is removed.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    try:
        settings = Deployment.named(deployment)
        key, chosen = choose(settings, endpoint)
        only = tuple(space.candidate(TensorFlowServing.model_validate_json(text)) for text in candidate or [])
        account = LocalAccount.read((state or default_state()).absolute())
        if account is not None:
            os.environ.update(account.environment())
        vcpus = available_cores() if account is not None else instance(chosen.instance_type).vcpus
        assert settings.workloads.saved_model is not None
        plan = Plan(
            vcpus,
            clients or 2 * vcpus,
            settings.workloads.saved_model.recipe.png_signature,
            slices,
            rate,
            p99_limit_ms,
            only,
        )
        if account is None and not yes:
            fail(f"{_estimate(plan, settings.region or REGION, chosen)}; repeat with --yes to agree")
        target = Target(settings.endpoint_name(WORKLOAD, key), ONLY_VARIANT)
        found = _run(plan, settings, key, target, seconds, open_seconds)
    except ValidationError as error:
        fail("; ".join(f"candidate: {'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors()))
    except (DeploymentError, TrialFailedError, ValueError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the endpoint cannot be tuned: {error}; is the workload deployed?")
    except KeyboardInterrupt:
        print("interrupted: the endpoint beside is removed", file=sys.stderr)
        raise typer.Exit(130) from None
    where = f"LOCAL: {machine()}" if account is not None else chosen.instance_type
    _show(found, key, target, chosen, where, output / target.endpoint)
    if account is not None:
        print(_STAND_IN)
    if found.best is None:
        raise typer.Exit(1)


def choose(settings: Deployment, key: str | None) -> tuple[str, UnetEndpoint]:
    """The endpoint of that key, or the first of TensorFlow Serving, that keeps its size; raises ValueError."""
    workload = settings.workloads.saved_model
    if workload is None:
        raise ValueError(f"{WORKLOAD} is not in the deployment; it has {', '.join(settings.workloads.enabled)}")
    fit = [name for name, each in workload.endpoints.items() if each.tunable]
    if key is not None and key not in fit:
        raise ValueError(
            f"endpoint is {key!r}: choose one of TensorFlow Serving without scaling: {', '.join(fit) or 'none'}"
        )
    if not fit:
        raise ValueError("no endpoint of saved_model has server tensorflow_serving and no scaling: add one")
    chosen = key or fit[0]
    name = tuning_endpoint_name(settings.endpoint_name(WORKLOAD, chosen))
    if len(name) > ENDPOINT_NAME_LIMIT:
        raise ValueError(f"endpoint is {chosen!r}: {name!r} has more than {ENDPOINT_NAME_LIMIT} characters; shorten it")
    return chosen, workload.endpoints[chosen]


def _estimate(plan: Plan, region: str, endpoint: UnetEndpoint) -> str:
    trials = len(plan.only) or len(space.parallelism(plan.vcpus)) + 7
    hours = trials * _UPDATE_MINUTES / 60
    try:
        cost = f"about {hours * price(region, endpoint.instance_type).usd_per_hour:.2f} US dollars"
    except PriceError:
        cost = "at its price, which is not in the table"
    return f"this runs one {endpoint.instance_type} beside the endpoint for about {60 * hours:.0f} minutes, {cost}"


def _run(plan: Plan, settings: Deployment, key: str, target: Target, seconds: float, open_seconds: float) -> Sweep:
    # NumPy and Pillow come with the extra `unet`.
    from load_tests import saved_model

    def agree(given: bytes, expected: bytes) -> bool:
        masks = [saved_model.answered_mask(answer, "json") for answer in (given, expected)]
        return saved_model.iou(*masks) >= 0.99

    console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A thread that redraws the bar would take time from the requests that are measured.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
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
            # The answers of two settings are compared as masks in JSON, the form that needs no inference.py.
            requests_of(settings, WORKLOAD, key, form="json"),
            clients=plan.clients,
            seconds=seconds,
            open_seconds=open_seconds,
            agree=agree,
            on_wait=lambda text: progress.update(task, refresh=True),
        )
        with bench:
            return sweep(plan, bench, on_trial, on_start)


def _show(found: Sweep, key: str, target: Target, endpoint: UnetEndpoint, where: str, folder: Path) -> None:
    title = f"{target.endpoint}: {found.plan.clients} clients; open loop {found.rate:.2f}/s. {where}"
    console = Console(width=None if sys.stdout.isatty() else 180, markup=False)
    console.print(report.table(found, title))
    console.print(report.conclusion(found))
    text = report.snippet(found.best, WORKLOAD, key, endpoint) if found.best is not None else None
    report.write(found, folder, title=title, best_text=text)
    if text is not None:
        console.print(f"for the deployment file:\n{text}")
    print(f"the figures, the plot and the snippet are in {folder}", file=sys.stderr)
