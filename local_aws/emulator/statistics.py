"""CloudWatch's statistics over the datapoints of one period.

Source: "CloudWatch statistics definitions" in the CloudWatch user guide.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SHORT = re.compile(r"(p|tm|wm|tc|ts)([0-9]{1,2}(?:\.[0-9]{1,10})?|100)", re.IGNORECASE)
_RANGE = re.compile(r"(tm|wm|tc|ts|pr)\(([0-9.]*%?):([0-9.]*%?)\)", re.IGNORECASE)
_BOUND = re.compile(r"[0-9]+(\.[0-9]+)?%?")
_INTERQUARTILE = "IQM"


class StatisticError(ValueError):
    """Unknown statistic name; the message quotes it."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The datapoints of one period.

    count, total, low, high: number, sum, minimum and maximum of the values.
    values: values with the number of times each was seen; None if a statistic set hides them, or one is negative. Then
        CloudWatch has no percentiles and trimmed statistics.
    """

    count: float
    total: float
    low: float
    high: float
    values: Sequence[tuple[float, float]] | None


Statistic = Callable[[Samples], float | None]
"""A statistic's value, or None if the samples do not have it."""
_SIMPLE: dict[str, Statistic] = {
    "SampleCount": lambda samples: samples.count,
    "Sum": lambda samples: samples.total,
    "Average": lambda samples: samples.total / samples.count,
    "Minimum": lambda samples: samples.low,
    "Maximum": lambda samples: samples.high,
}


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds of a trimmed statistic: percentiles from 0 to 100, or values."""

    low: float
    high: float
    percent: bool

    def inside(self, values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Return the values within the bounds, each with the fraction of its weight inside."""
        if not self.percent:
            return [(value, weight) for value, weight in values if self.low < value <= self.high]
        total, before, kept = sum(weight for _, weight in values), 0.0, []
        for value, weight in sorted(values):
            part = min(before + weight, self.high / 100 * total) - max(before, self.low / 100 * total)
            before += weight
            if part > 0:
                kept.append((value, part))
        return kept


def statistic(name: str) -> Statistic:
    """Return the statistic of a name, such as `Average`, `p99.9`, `TM(10%:90%)` or `IQM`; raise StatisticError."""
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name == _INTERQUARTILE:
        return _trimmed("tm", _Bounds(25, 75, percent=True))
    if match := _SHORT.fullmatch(name):
        kind, percent = match[1].lower(), float(match[2])
        return _percentile(percent) if kind == "p" else _trimmed(kind, _Bounds(0, percent, percent=True))
    if match := _RANGE.fullmatch(name):
        return _trimmed(match[1].lower(), _bounds(name, match[2], match[3]))
    raise StatisticError(f"{name!r} is not a statistic")


def _bounds(name: str, low: str, high: str) -> _Bounds:
    given = [text for text in (low, high) if text]
    percents = {text.endswith("%") for text in given}
    if len(percents) != 1 or not all(_BOUND.fullmatch(text) for text in given):
        raise StatisticError(f"{name!r} is not a statistic: give one or two bounds, both with or both without %")
    percent = percents.pop()
    least, most = (float(text.rstrip("%")) if text else None for text in (low, high))
    bounds = _Bounds(
        least if least is not None else (0.0 if percent else float("-inf")),
        most if most is not None else (100.0 if percent else float("inf")),
        percent,
    )
    if bounds.low >= bounds.high or (percent and bounds.high > 100) or (percent and name.lower().startswith("pr")):
        raise StatisticError(f"{name!r} is not a statistic: its bounds must ascend, PR's without %, others up to 100%")
    return bounds


def _percentile(percent: float) -> Statistic:
    def value(samples: Samples) -> float | None:
        return None if samples.values is None else percentile(samples.values, percent)

    return value


def percentile(values: Sequence[tuple[float, float]], percent: float) -> float:
    """Return a percentile of weighted values, interpolated between the two nearest ranks."""
    ordered = sorted(values)
    rank = percent / 100 * max(0.0, sum(weight for _, weight in ordered) - 1)

    def at(index: float) -> float:
        seen = 0.0
        for value, weight in ordered:
            seen += weight
            if index < seen:
                return value
        return ordered[-1][0]

    low = at(int(rank))
    return low + (rank - int(rank)) * (at(int(rank) + 1) - low)


def _trimmed(kind: str, bounds: _Bounds) -> Statistic:
    def value(samples: Samples) -> float | None:
        if samples.values is None:
            return None
        inside = bounds.inside(samples.values)
        count, total = sum(weight for _, weight in inside), sum(value * weight for value, weight in inside)
        match kind:
            case "tc":
                return count
            case "ts":
                return total
            case "pr":
                return 100 * count / samples.count
            case "wm" if inside:
                low, high = min(inside)[0], max(inside)[0]
                return sum(min(max(each, low), high) * weight for each, weight in samples.values) / samples.count
        return total / count if count else None

    return value
