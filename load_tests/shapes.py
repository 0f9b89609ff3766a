"""Changes of a load over time, as a course of linear stretches that clients and generators both follow."""

import csv
import io
import math
import random
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Constant(_Shape):
    """The same level from beginning to end."""

    kind: Literal["constant"] = "constant"


class Steps(_Shape):
    """Increase to the level in `count` equal steps of equal length."""

    kind: Literal["steps"] = "steps"
    count: int = Field(default=4, ge=2)


class Spike(_Shape):
    """The level, multiplied by `factor` in the middle fifth."""

    kind: Literal["spike"] = "spike"
    factor: float = Field(default=5.0, gt=1)


class Ramp(_Shape):
    """Linear increase from `start`, a fraction of the level, to the level."""

    kind: Literal["ramp"] = "ramp"
    start: float = Field(default=0.1, gt=0, lt=1)


class Replay(_Shape):
    """A recorded trace that replaces the test's own level.

    of: whether levels are users or requests per second.
    points: pairs of second and level; each level holds until the next point.
    """

    kind: Literal["replay"] = "replay"
    of: Literal["users", "rate"] = "rate"
    points: tuple[tuple[float, float], ...] = Field(min_length=1)


Shape = Annotated[Constant | Steps | Spike | Ramp | Replay, Field(discriminator="kind")]
KINDS = "constant, steps[:COUNT], spike[:FACTOR], ramp[:START] or replay (with a trace)"


class ShapeError(ValueError):
    """A shape or a trace is invalid; the message lists the valid forms."""


def parse_shape(text: str) -> Constant | Steps | Spike | Ramp:
    """Parse a shape from `KIND` or `KIND:NUMBER`; raises ShapeError."""
    kind, colon, number = text.partition(":")
    try:
        if kind == "constant" and not colon:
            return Constant()
        if kind == "steps":
            return Steps(count=int(number)) if colon else Steps()
        if kind == "spike":
            return Spike(factor=float(number)) if colon else Spike()
        if kind == "ramp":
            return Ramp(start=float(number)) if colon else Ramp()
    except ValueError as error:
        raise ShapeError(f"shape is {text!r}, and {number!r} is not a valid number for it: give {KINDS}") from error
    raise ShapeError(f"shape is {text!r}: give {KINDS}")


def read_trace(text: str) -> Replay:
    """Read a CSV trace with the columns `seconds` and `rate`, or `users`, in order from second 0; raises ShapeError."""
    rows = list(csv.DictReader(io.StringIO(text)))
    of: Literal["users", "rate"] = "users" if rows and "users" in rows[0] else "rate"
    try:
        points = tuple((float(row["seconds"]), float(row[of])) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ShapeError(
            f"the trace needs numbers in columns seconds and rate, or seconds and users ({error}): check its first line"
        ) from None
    if not points or points[0][0] != 0:
        raise ShapeError(f"the trace begins at {points[0][0] if points else 'no'} second(s): begin at 0")
    for (earlier, _), (later, _) in pairwise(points):
        if later <= earlier:
            raise ShapeError(f"the trace has second {later:g} after {earlier:g}: sort its rows, with each second once")
    if any(not math.isfinite(rate) or rate < 0 for _, rate in points):
        raise ShapeError(f"the trace has a value in column {of} that is negative or not finite: give numbers from 0")
    if not any(rate for _, rate in points):
        raise ShapeError(f"the trace has only zeros in column {of}: give a number above 0 in at least one row")
    return Replay(of=of, points=points)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A linear change of the level from `first` at second `begin` to `last` at second `end`."""

    begin: float
    end: float
    first: float
    last: float

    @property
    def area(self) -> float:
        """Integral of the level: the number of requests if the level is a rate."""
        return (self.first + self.last) / 2 * (self.end - self.begin)

    def at(self, second: float) -> float:
        """Return the level at a second of this stretch."""
        return self.first + (self.last - self.first) * (second - self.begin) / (self.end - self.begin)

    def second_of(self, area: float) -> float:
        """Return the second at which the integral from the stretch's beginning reaches `area`."""
        slope = (self.last - self.first) / (self.end - self.begin)
        # Solve first*x + slope*x*x/2 = area in the form that keeps precision for a slope near 0.
        root = math.sqrt(max(0.0, self.first * self.first + 2 * slope * area))
        return self.begin + (2 * area / (self.first + root) if area else 0.0)


@dataclass(frozen=True, slots=True)
class Course:
    """A load's level at every second; 0 outside its stretches."""

    stretches: tuple[Stretch, ...]

    @property
    def seconds(self) -> float:
        """Second at which the course ends."""
        return self.stretches[-1].end

    @property
    def highest(self) -> float:
        """Highest level."""
        return max(max(each.first, each.last) for each in self.stretches)

    def at(self, second: float) -> float:
        """Return the level at a second."""
        for each in self.stretches:
            if each.begin <= second < each.end:
                return each.at(second)
        return 0.0

    def total(self, begin: float, end: float) -> float:
        """Return the integral of the level between two seconds."""
        return sum(each.area for each in self._within(begin, end))

    def arrivals(self, count: int, begin: float, end: float, source: random.Random) -> "array[float]":
        """Return `count` arrivals, in order, of a Poisson process with this rate between two seconds.

        Given their number, the arrivals of a Poisson process are independent draws from its normalized rate (Ross,
        Introduction to Probability Models, 11th ed., theorem 5.2). Fixing the number to its expected value keeps the
        process Poisson at every scale below the window's, and makes the rate sent equal the rate requested.
        """
        within = self._within(begin, end)
        total = sum(each.area for each in within)
        arrivals: array[float] = array("d")
        stretches = iter(within)
        current, passed = next(stretches, None), 0.0
        for area in sorted(source.random() * total for _ in range(count if total > 0 else 0)):
            while current is not None and area > passed + current.area:
                passed += current.area
                current = next(stretches, current)
            if current is not None:
                arrivals.append(current.second_of(area - passed))
        return arrivals

    def _within(self, begin: float, end: float) -> list[Stretch]:
        cut = ((each, max(each.begin, begin), min(each.end, end)) for each in self.stretches)
        return [Stretch(first, last, each.at(first), each.at(last)) for each, first, last in cut if last > first]


def course(shape: Shape, level: float, *, warm_up: float, seconds: float) -> Course:
    """Return the course of a shape: its first level for `warm_up` seconds, then the shape over `seconds`."""
    if isinstance(shape, Steps):
        length = seconds / shape.count
        parts = [
            Stretch(number * length, (number + 1) * length, *[level * (number + 1) / shape.count] * 2)
            for number in range(shape.count)
        ]
    elif isinstance(shape, Spike):
        parts = [
            Stretch(0, 0.4 * seconds, level, level),
            Stretch(0.4 * seconds, 0.6 * seconds, level * shape.factor, level * shape.factor),
            Stretch(0.6 * seconds, seconds, level, level),
        ]
    elif isinstance(shape, Ramp):
        parts = [Stretch(0, seconds, level * shape.start, level)]
    elif isinstance(shape, Replay):
        ends = [*(second for second, _ in shape.points[1:]), max(seconds, shape.points[-1][0])]
        parts = [
            Stretch(second, min(end, seconds), rate, rate)
            for (second, rate), end in zip(shape.points, ends, strict=True)
            if min(end, seconds) > second
        ]
    else:
        parts = [Stretch(0, seconds, level, level)]
    return Course(tuple(_after(warm_up, parts)))


def replay_seconds(shape: Replay) -> float:
    """Return a trace's duration in seconds; the last row lasts as long as the one before, a single row one minute."""
    if len(shape.points) == 1:
        return 60.0
    (before, _), (last, _) = shape.points[-2:]
    return 2 * last - before


def _after(warm_up: float, parts: list[Stretch]) -> Iterable[Stretch]:
    if warm_up > 0:
        yield Stretch(0, warm_up, parts[0].first, parts[0].first)
    for each in parts:
        yield Stretch(each.begin + warm_up, each.end + warm_up, each.first, each.last)
