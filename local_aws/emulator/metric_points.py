"""Datapoints of metrics as CloudWatch keeps them: statistics of what arrived in one period, under one unit."""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from local_aws.emulator.statistics import Samples

MAX_VALUES = 2048
"""Most distinct values kept of one period. Beyond, neighbors are merged: 32 KiB at most, however much arrives."""
_WIDTH = 1.01
"""Ratio of the bounds within which neighbors are merged into their mean, so a percentile is off by 1% at most."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Identity of a metric. dimensions: sorted pairs of name and value."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Datum:
    """What a client sends at once about one metric.

    at: seconds since 1970. resolution: 1 for a high-resolution metric, otherwise 60.
    """

    metric: Metric
    unit: str
    at: float
    resolution: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Point:
    """What is kept of one period.

    start: of the period, in seconds since 1970. at: when its newest datum was measured.
    """

    start: int
    at: float
    unit: str
    samples: Samples


def merged(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several datapoints as those of one; there must be at least one."""
    low = min(part.low for part in parts)
    counts: defaultdict[float, float] = defaultdict(float)
    for part in parts:
        for value, count in part.values or ():
            counts[value] += count
    # CloudWatch has no percentiles where a statistic set hides values, or where one is negative.
    hidden = low < 0 or any(part.values is None for part in parts)
    return Samples(
        count=math.fsum(part.count for part in parts),
        total=math.fsum(part.total for part in parts),
        low=low,
        high=max(part.high for part in parts),
        values=None if hidden else _limited(sorted(counts.items())),
    )


def _limited(values: list[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Merge neighbors of too many values, and leave their sum and number as they are."""
    if len(values) <= MAX_VALUES:
        return values
    cells: defaultdict[int | None, list[tuple[float, float]]] = defaultdict(list)
    for value, count in values:
        cells[math.floor(math.log(value, _WIDTH)) if value else None].append((value, count))
    return [_mean(cell) for cell in cells.values()]


def _mean(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0]
    total = math.fsum(count for _, count in values)
    return math.fsum(value * count for value, count in values) / total, total


def pack(samples: Samples) -> bytes | None:
    """Return the bytes of the values and their numbers; None if there are no values."""
    if samples.values is None:
        return None
    return array("d", (number for pair in samples.values for number in pair)).tobytes()


def unpack(packed: bytes | None) -> Sequence[tuple[float, float]] | None:
    """Return what `pack` was given."""
    if packed is None:
        return None
    numbers = array("d", packed)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def of_values(values: Iterable[tuple[float, float]]) -> Samples:
    """Return the samples of values with the number of times each was seen."""
    return merged([Samples(count, value * count, value, value, [(value, count)]) for value, count in values])


def of_statistic_set(count: float, total: float, low: float, high: float) -> Samples:
    """Return the samples of a statistic set, which shows its values only if they are all the same."""
    shown = [(low, count)] if low == high and total == low * count else None
    return Samples(count, total, low, high, shown)
