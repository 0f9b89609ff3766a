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
class Change:
    """A change of the instances asked for; seen: of the real ones, foreseen: of the simulated, in seconds."""

    before: int
    after: int
    seen: float | None
    foreseen: float | None

    @property
    def off(self) -> float | None:
        """Seconds that it was foreseen too late; None where only one of both happened."""
        return None if self.seen is None or self.foreseen is None else self.foreseen - self.seen


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


def changes(looks: Sequence[Look], result: Result) -> tuple[Change, ...]:
    """Real changes beside simulated ones, the n-th to the n-th as long as both go the same way."""
    begin = looks[0].seconds
    # A change is seen after it was made: halfway between the looks on average.
    seen = [
        ((before.seconds + after.seconds) / 2 - begin, before.desired, after.desired)
        for before, after in itertools.pairwise(looks)
        if before.desired != after.desired
    ]
    foreseen = [(action.seconds, action.before, action.after) for action in result.actions]
    return tuple(_pair(real, simulated) for real, simulated in itertools.zip_longest(seen, foreseen))


def instance_seconds(looks: Sequence[Look]) -> float:
    """Instances asked for over the time that was watched."""
    return sum((after.seconds - before.seconds) * before.desired for before, after in itertools.pairwise(looks))


def _pair(seen: tuple[float, int, int] | None, foreseen: tuple[float, int, int] | None) -> Change:
    shown = seen or foreseen
    assert shown is not None
    alike = seen is not None and foreseen is not None and seen[1:] == foreseen[1:]
    return Change(
        shown[1],
        shown[2],
        None if seen is None else seen[0],
        foreseen[0] if foreseen is not None and (alike or seen is None) else None,
    )
