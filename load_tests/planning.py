"""The plans of a load test, from what a user asked for and what the deployment serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_tests.deployed import DeployedWorkload
from load_tests.gates import parse_gate, with_defaults
from load_tests.kinds.base import Reached, Served
from load_tests.plan import Client, Mode, Plan
from load_tests.profiles import Profile, profile
from load_tests.shapes import Shape, parse_shape, read_trace, replay_seconds
from load_tests.targets import served
from sizing.text_files import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of a load test; None leaves one to the profile.

    rate: requests per second, sent whatever the responses (open loop). users: each with one request at a time (closed
    loop). spawn_rate: users per second. duration, warm_up, pause: seconds. requests: measured, after which a closed
    loop ends. shape: in words, as `load_tests.shapes` reads them. trace: CSV file to replay instead. gates: in words,
    as `load_tests.gates` reads them.
    """

    endpoint: str | None = None
    variant: str | None = None
    profile: str = "quick"
    users: int | None = None
    rate: float | None = None
    spawn_rate: float | None = None
    duration: float | None = None
    warm_up: float | None = None
    requests: int | None = None
    pause: float | None = None
    workers: int | None = None
    shape: str = "constant"
    trace: Path | None = None
    client: str = "boto3"
    gates: Sequence[str] = ()
    max_in_flight: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a load test's clients run, to label its results."""

    local: bool
    machine: str


def plan_tests(
    workload: DeployedWorkload[Any], asked: Asked, reached: Reached, place: Place
) -> list[tuple[Served, Plan]]:
    """Return what to load, and how, for every variant asked for.

    Raises ValueError, which includes GateError, ShapeError and pydantic's ValidationError, and OSError for a trace that
    cannot be read; errors of the client library and of httpx pass through.
    """
    chosen = profile(asked.profile)
    shape = read_trace(read_text(asked.trace)) if asked.trace is not None else parse_shape(asked.shape)
    mode = _mode(asked.rate, shape)
    gates = with_defaults([parse_gate(text) for text in asked.gates], mode)
    client = _client(asked.client)
    spawn_rate = asked.spawn_rate or chosen.spawn_rate
    plans = []
    for each in _of_variant(served(workload, asked.endpoint, reached), asked.variant):
        level = _level(chosen, each, asked, shape)
        default_seconds = replay_seconds(shape) if shape.kind == "replay" else chosen.seconds
        plan = Plan(
            workload=workload.name,
            endpoint=each.endpoint,
            variant=each.variant,
            instance_type=each.instance_type,
            location="local" if place.local else "aws",
            machine=place.machine,
            target=each.target,
            feed="",
            client=client,
            mode=mode,
            level=level,
            shape=shape,
            spawn_rate=spawn_rate,
            warm_up=_warm_up(chosen, mode, level, spawn_rate) if asked.warm_up is None else asked.warm_up,
            seconds=asked.duration or default_seconds,
            requests=asked.requests or (chosen.requests if mode == "closed" else None),
            pause=chosen.pause if asked.pause is None else (asked.pause, asked.pause),
            workers=asked.workers or chosen.workers,
            max_in_flight=asked.max_in_flight,
            seed=asked.seed,
            gates=gates,
        )
        plans.append((each, plan))
    return plans


def _of_variant(found: list[Served], variant: str | None) -> list[Served]:
    if variant is None:
        return found
    known = dict.fromkeys(each.variant for each in found if each.variant is not None)
    matching = [each for each in found if each.variant == variant]
    if not matching:
        raise ValueError(f"variant is {variant!r}: choose from {', '.join(known)}")
    return matching


def _mode(rate: float | None, shape: Shape) -> Mode:
    return "open" if rate is not None or (shape.kind == "replay" and shape.of == "rate") else "closed"


def _level(chosen: Profile, each: Served, asked: Asked, shape: Shape) -> float:
    rate, users = asked.rate, asked.users
    if rate is not None and users is not None:
        raise ValueError(f"users is {users} and rate {rate:g}: give users for a closed loop, rate for an open one")
    if shape.kind == "replay":
        if rate is not None or users is not None:
            raise ValueError("trace is set, and so is users or rate: a trace has its own levels; leave the other out")
        return max(level for _, level in shape.points)
    if rate is not None:
        return rate
    if users is not None:
        return users
    places = len(each.target.urls) * len(each.target.paths) if each.target.kind == "http" else 1
    return chosen.users or places


def _warm_up(chosen: Profile, mode: Mode, users: float, spawn_rate: float) -> float:
    """Return the profile's warm-up, in a closed loop at least until all users have spawned."""
    return max(chosen.warm_up, users / spawn_rate + 1) if mode == "closed" else chosen.warm_up


def _client(name: str) -> Client:
    if name == "boto3":
        return "boto3"
    if name == "fast":
        return "fast"
    raise ValueError(f"client is {name!r}: choose boto3 or fast")
