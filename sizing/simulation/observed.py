"""An observed scale-out of a real endpoint, for comparison with a simulation."""

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
    """Observations cannot be read; the message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Look:
    """One observation of an endpoint.

    seconds: time since the beginning.
    desired, ready: instances desired and in service.
    requests: total number of requests so far.
    """

    seconds: float
    desired: int
    ready: int
    requests: int


@dataclass(frozen=True, slots=True)
class Milestones:
    """Times in seconds of the main events of a scale-out; None for an event that did not happen.

    grew: first increase of the desired instances.
    at_most: when the desired instances reached their maximum.
    back: when they returned to the initial number.
    most: the maximum of the desired instances.
    """

    grew: float | None
    at_most: float | None
    back: float | None
    most: int


def read_moments(path: Path) -> tuple[Look, ...]:
    """Read the moments.csv that `inference watch-scaling` leaves; raises ObservedError."""
    try:
        with path.open(newline="") as file:
            rows = [
                {name: convert(row[name]) for name, convert in _COLUMNS.items()} for row in csv.DictReader(file)
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ObservedError(f"{path.name} is not a moments.csv of watch-scaling: {error!r}") from error
    if len(rows) < 2:
        raise ObservedError(f"{path.name} has {len(rows)} moments, and at least 2 are needed: watch for longer")
    return tuple(
        Look(row["seconds"], int(row["desired"]), int(row["current"]), int(row["answered"] + row["failed"]))
        for row in rows
    )


def traffic_of(looks: Sequence[Look]) -> Trace:
    """Return the observed requests as a trace; requests between two observations are spread evenly."""
    begin = looks[0].seconds
    seconds = np.arange(int(looks[-1].seconds - begin) + 2)
    counts = np.interp(seconds, [look.seconds - begin for look in looks], [look.requests for look in looks])
    return Trace("as watched", np.diff(counts))


def provisioning_seconds(looks: Sequence[Look]) -> float:
    """Return the seconds from the first scale-out until all requested instances are in service; 0 without one."""
    for before, after in itertools.pairwise(looks):
        if after.desired > before.desired:
            ready = next((look for look in looks if look.ready >= after.desired), looks[-1])
            return max(0.0, ready.seconds - (before.seconds + after.seconds) / 2)
    return 0.0


def milestones_of(looks: Sequence[Look]) -> Milestones:
    """Return the milestones of observations; a change counts as halfway between two observations."""
    begin = looks[0].seconds
    changes = [
        ((before.seconds + after.seconds) / 2 - begin, after.desired)
        for before, after in itertools.pairwise(looks)
        if before.desired != after.desired
    ]
    return _milestones(looks[0].desired, changes)


def milestones_in(result: Result) -> Milestones:
    """Return the milestones of a simulation."""
    first = result.actions[0].before if result.actions else result.peak_instances
    return _milestones(first, [(action.seconds, action.after) for action in result.actions])


def instance_seconds(looks: Sequence[Look]) -> float:
    """Return the integral of the desired instances over the observed time, in instance-seconds."""
    return sum((after.seconds - before.seconds) * before.desired for before, after in itertools.pairwise(looks))


def _milestones(first: int, changes: Sequence[tuple[float, int]]) -> Milestones:
    most = max([first, *(count for _, count in changes)])
    grew = next((seconds for seconds, count in changes if count > first), None)
    if grew is None:
        return Milestones(None, None, None, most)
    at_most = next(seconds for seconds, count in changes if count == most)
    back = next((seconds for seconds, count in changes if seconds > at_most and count <= first), None)
    return Milestones(grew, at_most, back, most)
