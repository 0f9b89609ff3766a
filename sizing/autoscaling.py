"""Scaling decisions of Application Auto Scaling from a metric's datapoints: the only implementation of the rules.

The local account applies it to real replicas, the simulation to simulated ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SCALE_IN_AT = 0.9
"""Target tracking scales in when the metric is below 90 % of its target ("How target tracking scaling works", AWS
guide)."""


@dataclass(frozen=True, slots=True)
class MetricKind:
    """A metric's period in seconds, and the consecutive datapoints above or below the target that scale out or in."""

    period: float
    out_points: int
    in_points: int


INVOCATIONS = MetricKind(60, 3, 15)
"""Invocations per minute per instance or copy: alarms of three and of fifteen minutes."""
CONCURRENCY = MetricKind(10, 3, 90)
"""Requests in flight, as a high-resolution metric: alarms of half a minute and of fifteen minutes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Minimum and maximum capacity."""

    minimum: int
    maximum: int

    def hold(self, count: int) -> int:
        """Limit a count to these bounds."""
        return max(self.minimum, min(self.maximum, count))


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """Policy that keeps a metric per instance at its target, above 0; cooldowns in seconds."""

    target: float
    scale_out_cooldown: float = 300.0
    scale_in_cooldown: float = 300.0
    scale_in: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a step scaling policy.

    lower, upper: range of the metric's distance above the threshold; the upper bound is exclusive.
    change: instances to add.
    """

    lower: float
    upper: float
    change: int


@dataclass(frozen=True, slots=True)
class StepScaling:
    """Policy that scales in steps when an alarm is breached.

    threshold: alarm threshold of the metric.
    or_equal: whether a datapoint equal to the threshold is a breach.
    periods: number of consecutive datapoints that must all breach the threshold.
    cooldown: cooldown in seconds.
    """

    threshold: float
    periods: int
    steps: tuple[Step, ...]
    cooldown: float = 0.0
    or_equal: bool = False


@dataclass(slots=True)
class History:
    """Times of the last change in capacity and of the last increase, in seconds of any clock."""

    changed: float = -math.inf
    grew: float = -math.inf

    def record(self, now: float, *, grows: bool) -> None:
        """Record a change in capacity at time `now`."""
        self.changed = now
        if grows:
            self.grew = now

    def since(self, now: float, *, out: bool) -> float:
        """Return the seconds since the event that a scale-out, or a scale-in, must wait for.

        A scale-out delays a scale-in, but not the other way round (StepScalingPolicyConfiguration, API reference).
        """
        return now - (self.grew if out else self.changed)


def desired_capacity(current: int, metric: float, target: float, bounds: Bounds) -> int:
    """Return the number of instances that brings the metric to its target, within the bounds.

    Source: "How target tracking scaling works" in the Application Auto Scaling user guide: capacity changes in
    proportion to the metric, rounded up.
    """
    return bounds.hold(math.ceil(current * metric / target))


def track(
    policy: TargetTracking,
    kind: MetricKind,
    points: Sequence[float],
    current: int,
    bounds: Bounds,
    *,
    since_out: float,
    since_change: float,
) -> int:
    """Return the capacity that target tracking wants after the latest datapoint, or `current` without a breach.

    points: datapoints since the last change, latest last.
    since_out, since_change: seconds from History.since for scaling out and for scaling in.
    """
    latest = points[-kind.out_points :]
    if len(latest) >= kind.out_points and all(point > policy.target for point in latest):
        if since_out >= policy.scale_out_cooldown:
            return max(current, desired_capacity(current, points[-1], policy.target, bounds))
    elif (
        policy.scale_in
        and len(points) >= kind.in_points
        and all(point < _SCALE_IN_AT * policy.target for point in points[-kind.in_points :])
        and since_change >= policy.scale_in_cooldown
    ):
        return min(current, desired_capacity(current, max(points[-kind.in_points :]), policy.target, bounds))
    return bounds.hold(current)


def step(
    policy: StepScaling,
    points: Sequence[float],
    current: int,
    bounds: Bounds,
    *,
    since_out: float,
    since_change: float,
) -> int:
    """Return the capacity that step scaling wants after the latest datapoint; arguments as for `track`."""
    latest = points[-policy.periods :]
    if len(latest) < policy.periods or not all(_breaches(policy, point) for point in latest):
        return current
    over = latest[-1] - policy.threshold
    change = next((each.change for each in policy.steps if each.lower <= over < each.upper), 0)
    if (since_out if change > 0 else since_change) < policy.cooldown:
        return current
    return bounds.hold(current + change)


def _breaches(policy: StepScaling, point: float) -> bool:
    return point >= policy.threshold if policy.or_equal else point > policy.threshold
