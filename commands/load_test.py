"""`inference load-test`: load the endpoints of a workload, and decide by gates whether they are good enough."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from commands.account import Deployment as DeploymentName
from commands.account import State, reached, selected_account
from commands.output import NO_RESULT, console, fail
from load_tests.deployed import DeployedWorkload
from load_tests.fargate_deployment import check, describe, run_on_fargate, settings_of
from load_tests.gates import FORMS
from load_tests.kinds import KINDS
from load_tests.kinds.base import Served
from load_tests.machine import machine
from load_tests.plan import Plan
from load_tests.planning import Asked, Place, plan_tests
from load_tests.profiles import PROFILES
from load_tests.shapes import KINDS as SHAPES
from load_tests.targets import deployed_workload
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.load_test import LoadTest

FOLDER = Path("build/load_tests")

# Groups of options in the help.
_LOAD, _LENGTH, _SENDING, _RESULT = "Load", "Length", "How and from where it is sent", "Result"


def load_test(  # noqa: PLR0913 - options of the command
    state: State,
    workload: Annotated[str, typer.Argument(help="name of a workload in the deployment")],
    endpoint: Annotated[str | None, typer.Option(help="endpoint key; default: every endpoint in turn")] = None,
    variant: Annotated[str | None, typer.Option(help="variant; default: every variant in turn")] = None,
    deployment: DeploymentName = "dev",
    profile: Annotated[
        str, typer.Option(rich_help_panel=_LOAD, help=f"named load test: {', '.join(PROFILES)}")
    ] = "quick",
    users: Annotated[
        int | None,
        typer.Option(rich_help_panel=_LOAD, min=1, help="closed loop: users, each with one request at a time"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(rich_help_panel=_LOAD, min=0.001, help="open loop: requests per second")
    ] = None,
    spawn_rate: Annotated[
        float | None, typer.Option(rich_help_panel=_LOAD, min=0.001, help="users started per second")
    ] = None,
    duration: Annotated[float | None, typer.Option(rich_help_panel=_LENGTH, min=1, help="measured seconds")] = None,
    warm_up: Annotated[
        float | None, typer.Option(rich_help_panel=_LENGTH, min=0, help="warm-up seconds, excluded from the results")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(rich_help_panel=_LENGTH, min=1, help="stop after this many measured requests")
    ] = None,
    pause: Annotated[
        float | None, typer.Option(rich_help_panel=_LOAD, min=0, help="seconds between a user's requests")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(rich_help_panel=_SENDING, min=1, help="processes that send requests")
    ] = None,
    shape: Annotated[str, typer.Option(rich_help_panel=_LOAD, help=SHAPES)] = "constant",
    trace: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_LOAD, help="CSV file to replay: seconds and rate, or seconds and users"),
    ] = None,
    client: Annotated[
        str, typer.Option(rich_help_panel=_SENDING, help="boto3, or fast: signed requests without boto3")
    ] = "boto3",
    gate: Annotated[list[str] | None, typer.Option(rich_help_panel=_RESULT, help=f"{FORMS}; repeatable")] = None,
    max_in_flight: Annotated[
        int, typer.Option(rich_help_panel=_SENDING, min=1, help="open loop: most requests in flight")
    ] = 1000,
    seed: Annotated[int, typer.Option(rich_help_panel=_SENDING, help="random seed for arrivals and pauses")] = 0,
    host: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_SENDING, help="server to send to, as http://HOST:PORT; repeatable (neuron_encoder)"
        ),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(rich_help_panel=_SENDING, help="address each NeuronCore and model by its path (neuron_encoder)"),
    ] = True,
    on: Annotated[
        str, typer.Option(rich_help_panel=_SENDING, help="machine: this one; fargate: the deployment's LoadTest stack")
    ] = "machine",
    json: Annotated[
        Path | None, typer.Option(rich_help_panel=_RESULT, help="result file; several results get their endpoint added")
    ] = None,
) -> None:
    """Load endpoints and print what clients saw; exit code 1 when a gate fails, 2 without a result.

    Works on the running local account, or without one on the AWS account of the environment.
    """
    asked = Asked(
        endpoint=endpoint, variant=variant, profile=profile, users=users, rate=rate, spawn_rate=spawn_rate,
        duration=duration, warm_up=warm_up, requests=requests, pause=pause, workers=workers, shape=shape, trace=trace,
        client=client, gates=tuple(gate or ()), max_in_flight=max_in_flight, seed=seed,
    )  # fmt: skip
    try:
        settings = Deployment.named(deployment)
        fargate = _fargate(on, settings)
        with selected_account(state) as account:
            found = deployed_workload(settings, workload)
            on_fargate = fargate is not None and account is None
            place = Place(account is not None, describe(fargate, asked) if fargate and on_fargate else machine())
            tests = plan_tests(found, asked, reached(account, host, by_path=pairs), place)
            for _, plan in tests if fargate is not None else ():
                check(settings_of(settings), plan)
            passed = _run_all(found, tests, json, fargate=fargate is not None)
    except ValidationError as error:
        fail("; ".join(str(each["msg"]) for each in error.errors()), NO_RESULT)
    except (DeploymentError, ValueError, OSError) as error:
        fail(str(error), NO_RESULT)
    except (BotoCoreError, ClientError) as error:
        fail(f"the workload cannot be loaded: {error}; is it deployed?", NO_RESULT)
    except httpx.HTTPError as error:
        fail(f"the local account does not respond: {error}; see `inference local status`", NO_RESULT)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not passed:
        raise typer.Exit(1)


def _fargate(on: str, settings: Deployment) -> LoadTest | None:
    if on not in ("machine", "fargate"):
        raise ValueError(f"on is {on!r}: choose machine or fargate")
    return settings_of(settings) if on == "fargate" else None


def _run_all(
    workload: DeployedWorkload[Any], tests: Sequence[tuple[Served, Plan]], path: Path | None, *, fargate: bool
) -> bool:
    several = len(tests) > 1
    return all([_run(workload, served, plan, path, several=several, fargate=fargate) for served, plan in tests])


def _run(
    workload: DeployedWorkload[Any], served: Served, plan: Plan, path: Path | None, *, several: bool, fargate: bool
) -> bool:
    """Run one plan, print and write its result, and return whether it passed."""
    try:
        from commands.load_test_tables import progress, show
        from load_tests.launch import LoadTestError, run
    except ImportError as error:
        fail(
            f"{error.name} is missing: install the extra `load`, pip install -e '.[load]' -c constraints.txt", NO_RESULT
        )
    payloads = KINDS[workload.settings.kind].requests(workload, served.key)
    name = "-".join(filter(None, [plan.endpoint, plan.variant]))
    folder = FOLDER / name
    try:
        with progress(plan) as on_event:
            if fargate:
                result = run_on_fargate(workload.deployment, plan, payloads, folder.absolute(), on_event)
            else:
                result = run(plan, payloads, folder.absolute(), on_event)
    except LoadTestError as error:
        fail(str(error), NO_RESULT)
    written = folder / "result.json"
    if path is not None:
        written = path.with_name(f"{path.stem}-{name}{path.suffix}") if several else path
        result.write(written)
    show(result, console())
    print(f"the result is in {written}", file=sys.stderr)
    return result.passed
