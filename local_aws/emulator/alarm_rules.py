"""CloudWatch's rules for an alarm's state, from the datapoints of one metric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_aws.emulator.metric_points import Point

PERIOD_SECONDS = 60.0
"""Longest interval between two datapoints of an endpoint's metric, in seconds."""
Statistic = Callable[[Sequence[Point]], float | None]
_COUNTS = ("Sum", "SampleCount")
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule of a metric alarm.

    period: seconds. scale: how many times faster the alarm's time passes; sums are scaled to a full period.
    """

    statistic: str
    comparison: str
    threshold: float
    period: float
    periods: int
    datapoints: int
    missing: str
    scale: float = 1.0

    @classmethod
    def of(cls, alarm: Mapping[str, Any], scale: float) -> "Rule":
        """Build the rule from an alarm as CloudWatch describes it."""
        periods = int(alarm.get("EvaluationPeriods") or 1)
        return cls(
            alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average",
            alarm.get("ComparisonOperator") or "",
            float(alarm.get("Threshold") or 0),
            float(alarm.get("Period") or PERIOD_SECONDS),
            periods,
            int(alarm.get("DatapointsToAlarm") or periods),
            alarm.get("TreatMissingData") or "missing",
            scale,
        )

    @property
    def window(self) -> float:
        """Wall-clock seconds that one period takes."""
        return self.period / self.scale

    def since(self, now: float) -> float:
        """Return the time of the oldest datapoint that the state may depend on, in seconds since 1970."""
        return self._first(now) * self.window - 2 * PERIOD_SECONDS

    def _first(self, now: float) -> int:
        """Return the index of the oldest period that may fill in for a missing one."""
        return int(now // self.window) - 2 * self.periods

    def state(self, points: Sequence[Point], statistic: Statistic, before: str, now: float) -> tuple[str, str]:
        """Return the state now and the reason for it.

        points: oldest first, at least those since `since(now)`. The alarm fires if enough of the newest periods with
        data breach the threshold. As in CloudWatch, older periods fill in for missing ones, here up to the same number
        again. Periods still missing after that are treated as TreatMissingData says.
        """
        values = self._values(points, statistic, now)[: self.periods]
        breach = _COMPARISONS[self.comparison]
        breaching = sum(breach(value, self.threshold) for value in values)
        if self.missing == "breaching":
            breaching += self.periods - len(values)
        shown = ", ".join(f"{value:g}" for value in values) or "no data"
        reason = f"Threshold Crossed: {breaching} of {self.periods} datapoints [{shown}] {self.comparison} "
        reason += f"{self.threshold:g}"
        if breaching >= self.datapoints:
            return "ALARM", reason
        if values or self.missing in ("notBreaching", "breaching"):
            return "OK", reason
        return (before if self.missing == "ignore" else "INSUFFICIENT_DATA"), reason

    def _values(self, points: Sequence[Point], statistic: Statistic, now: float) -> list[float]:
        """Return the statistic of each period that has data and has ended, newest first."""
        first, last = self._first(now), int(now // self.window)
        periods: dict[int, list[Point]] = {}
        earlier: float | None = None
        for point in reversed(points):
            index = int(point.at // self.window)
            if index < first:
                earlier = point.at
                break
            if index < last:
                periods.setdefault(index, []).append(point)
        values = []
        for index in sorted(periods, reverse=True):
            value = statistic(periods[index])
            if value is None:
                continue
            if self.statistic in _COUNTS and self.scale > 1:
                end = max(point.at for point in periods[index])
                before = max((point.at for i in periods if i < index for point in periods[i]), default=earlier)
                value *= self.period / self._covered(end, before)
            values.append(value)
        return values

    def _covered(self, end: float, before: float | None) -> float:
        """Return the seconds that a datapoint covers: the time since the datapoint before it."""
        return PERIOD_SECONDS if before is None else max(self.window / 2, min(PERIOD_SECONDS, end - before))
