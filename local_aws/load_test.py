"""`inference load-test`: load on the endpoints of a workload, what their clients saw, and whether that is enough."""

import os
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console

from load_tests.gates import FORMS, GateError, parse_gate, with_defaults
from load_tests.plan import Client, Mode, Plan
from load_tests.profiles import PROFILES, Profile, profile
from load_tests.shapes import KINDS, Shape, ShapeError, parse_shape, read_trace, replay_seconds
from local_aws.account import LocalAccount, default_state
from local_aws.cli import NO_RESULT, fail
from local_aws.deployed import machine
from local_aws.load_targets import Served, served
from local_aws.load_test_fargate import check, describe, run_on_fargate, settings_of
from local_aws.watch_scaling import requests_of
from stacks.load_test_settings import LoadTest
from stacks.settings import Deployment, DeploymentError

FOLDER = Path("build/load_tests")


def load_test(
    workload: Annotated[str, typer.Argument(help="encoder, tabular, saved_model or neuron_encoder")],
    endpoint: Annotated[str | None, typer.Option(help="the endpoint's key; every one in turn without it")] = None,
    variant: Annotated[str | None, typer.Option(help="one of its variants; every one in turn without it")] = None,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    profile_name: Annotated[str, typer.Option("--profile", help=f"{', '.join(PROFILES)}")] = "quick",
    users: Annotated[int | None, typer.Option(min=1, help="closed loop: users, each one request at a time")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="open loop: requests a second")] = None,
    spawn_rate: Annotated[float | None, typer.Option(min=0.001, help="users that begin a second")] = None,
    duration: Annotated[float | None, typer.Option(min=1, help="seconds that are measured")] = None,
    warm_up: Annotated[float | None, typer.Option(min=0, help="seconds before, that are not")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="end once so many were measured")] = None,
    pause: Annotated[float | None, typer.Option(min=0, help="seconds between a user's requests")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes that send")] = None,
    shape: Annotated[str, typer.Option(help=KINDS)] = "constant",
    trace: Annotated[Path | None, typer.Option(help="CSV of seconds and rate, or seconds and users, to replay")] = None,
    client: Annotated[str, typer.Option(help="boto3, or fast: signed requests without boto3")] = "boto3",
    gate: Annotated[list[str] | None, typer.Option(help=f"{FORMS}; several")] = None,
    max_in_flight: Annotated[int, typer.Option(min=1, help="open loop: requests in flight at the most")] = 1000,
    seed: Annotated[int, typer.Option(help="of arrivals and pauses")] = 0,
    host: Annotated[list[str] | None, typer.Option(help="neuron_encoder: servers to ask, http://HOST:PORT")] = None,
    pairs: Annotated[bool, typer.Option(help="neuron_encoder: ask each NeuronCore and model by its path")] = True,
    on: Annotated[str, typer.Option(help="machine, this one, or fargate, the deployment's LoadTestStack")] = "machine",
    json: Annotated[Path | None, typer.Option(help="where the result goes; several get their names added")] = None,
    state: Annotated[Path | None, typer.Option(help="folder of the local account's state")] = None,
) -> None:
    """Loads endpoints and prints what their clients saw; exit code 1 when a gate did not pass, 2 without a result.

    Works on the local account that runs, or without one on the AWS account of the environment.
    """
    try:
        chosen = profile(profile_name)
        settings = Deployment.named(deployment)
        fargate = _fargate(on, settings)
        account = LocalAccount.read((state or default_state()).absolute())
        if account is not None:
            os.environ.update(account.environment())
        course = read_trace(trace.read_text()) if trace is not None else parse_shape(shape)
        mode = _mode(rate, course)
        gates = with_defaults([parse_gate(text) for text in gate or []], mode)
        spawn = spawn_rate or chosen.spawn_rate
        found = served(settings, workload, endpoint, account=account, hosts=host or (), pairs=pairs)
        if variant is not None:
            there = [each.variant for each in found if each.variant is not None]
            found = [each for each in found if each.variant == variant]
            if not found:
                raise ValueError(f"variant is {variant!r}: choose from {', '.join(dict.fromkeys(there))}")
        plans = [
            Plan(
                workload=workload,
                endpoint=each.endpoint,
                variant=each.variant,
                instance_type=each.instance_type,
                location="local" if account is not None else "aws",
                machine=(
                    describe(fargate, workers or chosen.workers)
                    if fargate is not None and account is None
                    else machine()
                ),
                target=each.target,
                feed="",
                client=_client(client),
                mode=mode,
                level=(level := _level(chosen, each, rate, users, course)),
                shape=course,
                spawn_rate=spawn,
                warm_up=_warm_up(chosen, mode, level, spawn) if warm_up is None else warm_up,
                seconds=duration or (replay_seconds(course) if course.kind == "replay" else chosen.seconds),
                requests=requests or (chosen.requests if mode == "closed" else None),
                pause=chosen.pause if pause is None else (pause, pause),
                workers=workers or chosen.workers,
                max_in_flight=max_in_flight,
                seed=seed,
                gates=gates,
            )
            for each in found
        ]
        if fargate is not None:
            for plan in plans:
                check(fargate, plan)
        passed = [
            _run(settings, plan, each.key, json, several=len(plans) > 1, fargate=fargate is not None)
            for plan, each in zip(plans, found, strict=True)
        ]
    except ValidationError as error:
        fail("; ".join(str(each["msg"]) for each in error.errors()), NO_RESULT)
    except (DeploymentError, GateError, ShapeError, ValueError, OSError) as error:
        fail(str(error), NO_RESULT)
    except (BotoCoreError, ClientError) as error:
        fail(f"the workload cannot be loaded: {error}; is it deployed?", NO_RESULT)
    except httpx.HTTPError as error:
        fail(f"the local account does not answer: {error}; see `inference local status`", NO_RESULT)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not all(passed):
        raise typer.Exit(1)


def _fargate(on: str, settings: Deployment) -> LoadTest | None:
    if on not in ("machine", "fargate"):
        raise ValueError(f"on is {on!r}: choose machine or fargate")
    return settings_of(settings) if on == "fargate" else None


def _mode(rate: float | None, course: Shape) -> Mode:
    return "open" if rate is not None or (course.kind == "replay" and course.of == "rate") else "closed"


def _level(chosen: Profile, each: Served, rate: float | None, users: int | None, course: Shape) -> float:
    if rate is not None and users is not None:
        raise ValueError(
            f"there are users {users} and rate {rate:g}: give users for a closed loop, rate for an open one"
        )
    if course.kind == "replay":
        if rate is not None or users is not None:
            raise ValueError("there is a trace beside users or rate: its own levels are sent; leave them out")
        return max(level for _, level in course.points)
    if rate is not None:
        return rate
    if users is not None:
        return users
    places = len(each.target.urls) * len(each.target.paths) if each.target.kind == "http" else 1
    return chosen.users or places


def _warm_up(chosen: Profile, mode: Mode, users: float, spawn_rate: float) -> float:
    """The profile's, and in a closed loop no less than until all users are there."""
    return max(chosen.warm_up, users / spawn_rate + 1) if mode == "closed" else chosen.warm_up


def _client(name: str) -> Client:
    if name == "boto3":
        return "boto3"
    if name == "fast":
        return "fast"
    raise ValueError(f"client is {name!r}: choose boto3 or fast")


def _run(settings: Deployment, plan: Plan, key: str, path: Path | None, *, several: bool, fargate: bool) -> bool:
    """Runs one plan, prints its result and writes it; returns whether it passed."""
    try:
        from load_tests.launch import LoadTestError, run
        from local_aws.load_test_report import progress, show
    except ImportError as error:
        fail(
            f"{error.name} is missing: install the extra `load`, pip install -e '.[load]' -c constraints.txt", NO_RESULT
        )
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False)
    feed = requests_of(settings, plan.workload, key)
    name = "-".join(filter(None, [plan.endpoint, plan.variant]))
    folder = FOLDER / name
    try:
        with progress(plan) as on_event:
            if fargate:
                result = run_on_fargate(settings, plan, feed, folder.absolute(), on_event)
            else:
                result = run(plan, feed, folder.absolute(), on_event)
    except LoadTestError as error:
        fail(str(error), NO_RESULT)
    if path is not None:
        written = path.with_name(f"{path.stem}-{name}{path.suffix}") if several else path
        result.write(written)
    else:
        written = folder / "result.json"
    show(result, console)
    print(f"the result is in {written}", file=sys.stderr)
    return result.passed
