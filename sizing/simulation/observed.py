"""A real scale-out as it was watched, and how well a simulation foresaw it."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizing.simulation.result import Result
from sizing.simulation.traffic import Trace

_COLUMNS = {"seconds": float, "desired": int, "current": int, "answered": int, "failed": int}


class ObservedError(ValueError):
    """What was watched cannot be read; the message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at an endpoint: seconds since the beginning, instances asked for and in service, requests until then."""

    seconds: float
    desired: int
    ready: int
    requests: int


@dataclass(frozen=True, slots=True)
class Milestones:
    """When the instances asked for first grew, when they were most, and when they were back at the fewest, in seconds.

    None where they never did. most: how many they were then.
    """

    grew: float | None
    at_most: float | None
    back: float | None
    most: int


def read_moments(path: Path) -> tuple[Look, ...]:
    """The moments.csv that `inference watch-scaling` leaves; raises ObservedError."""
    try:
        with path.open(newline="") as file:
            rows = [
                {name: convert(row[name]) for name, convert in _COLUMNS.items()} for row in csv.DictReader(file)
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ObservedError(f"{path.name} is no moments.csv of watch-scaling: {error!r}") from error
    if len(rows) < 2:
        raise ObservedError(f"{path.name} has {len(rows)} moments: watch for longer")
    return tuple(
        Look(row["seconds"], int(row["desired"]), int(row["current"]), int(row["answered"] + row["failed"]))
        for row in rows
    )


def traffic_of(looks: Sequence[Look]) -> Trace:
    """The requests that were sent, as a trace: what came between two looks is spread evenly."""
    begin = looks[0].seconds
    seconds = np.arange(int(looks[-1].seconds - begin) + 2)
    counts = np.interp(seconds, [look.seconds - begin for look in looks], [look.requests for look in looks])
    return Trace("as watched", np.diff(counts))


def provisioning_seconds(looks: Sequence[Look]) -> float:
    """Seconds from the first scale-out until all that it asked for were in service; 0 where there was none."""
    for before, after in itertools.pairwise(looks):
        if after.desired > before.desired:
            ready = next((look for look in looks if look.ready >= after.desired), looks[-1])
            return max(0.0, ready.seconds - (before.seconds + after.seconds) / 2)
    return 0.0


def milestones_of(looks: Sequence[Look]) -> Milestones:
    """Of what was watched; a change is taken to have happened halfway between two looks."""
    begin = looks[0].seconds
    changes = [
        ((before.seconds + after.seconds) / 2 - begin, after.desired)
        for before, after in itertools.pairwise(looks)
        if before.desired != after.desired
    ]
    return _milestones(looks[0].desired, changes)


def milestones_in(result: Result) -> Milestones:
    """Of what was simulated."""
    first = result.actions[0].before if result.actions else result.peak_instances
    return _milestones(first, [(action.seconds, action.after) for action in result.actions])


def instance_seconds(looks: Sequence[Look]) -> float:
    """Instances asked for over the time that was watched."""
    return sum((after.seconds - before.seconds) * before.desired for before, after in itertools.pairwise(looks))


def _milestones(first: int, changes: Sequence[tuple[float, int]]) -> Milestones:
    most = max([first, *(count for _, count in changes)])
    grew = next((seconds for seconds, count in changes if count > first), None)
    if grew is None:
        return Milestones(None, None, None, most)
    at_most = next(seconds for seconds, count in changes if count == most)
    back = next((seconds for seconds, count in changes if seconds > at_most and count <= first), None)
    return Milestones(grew, at_most, back, most)
