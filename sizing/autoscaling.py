"""What Application Auto Scaling decides from a metric's datapoints: the one home of the rules.

The local account asks it about real replicas, the simulation about imagined ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SCALE_IN_AT = 0.9
"""Target tracking scales in below 90 % of its target ("How target tracking scaling works", AWS guide)."""


@dataclass(frozen=True, slots=True)
class MetricKind:
    """Period in seconds, and datapoints over the target that scale out and under it that scale in."""

    period: float
    out_points: int
    in_points: int


INVOCATIONS = MetricKind(60, 3, 15)
"""Invocations a minute and instance, or copy: alarms of three and of fifteen minutes."""
CONCURRENCY = MetricKind(10, 3, 90)
"""Requests in flight, in high resolution: alarms of half a minute and of fifteen minutes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most there may be."""

    minimum: int
    maximum: int

    def hold(self, count: int) -> int:
        """The count, or the bound that it is beyond."""
        return max(self.minimum, min(self.maximum, count))


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """Keeps a metric per instance at its target, above 0; cooldowns in seconds."""

    target: float
    scale_out_cooldown: float = 300.0
    scale_in_cooldown: float = 300.0
    scale_in: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """change: what to add where the metric is `lower` or more and less than `upper` over the threshold."""

    lower: float
    upper: float
    change: int


@dataclass(frozen=True, slots=True)
class StepScaling:
    """Steps on an alarm's breach.

    threshold: of the metric; or_equal: whether being at it is a breach. periods: datapoints that must all breach it.
    cooldown: in seconds.
    """

    threshold: float
    periods: int
    steps: tuple[Step, ...]
    cooldown: float = 0.0
    or_equal: bool = False


@dataclass(slots=True)
class History:
    """When the capacity changed last, and when it grew last, in seconds of any clock."""

    changed: float = -math.inf
    grew: float = -math.inf

    def record(self, now: float, *, grows: bool) -> None:
        """The capacity changes now."""
        self.changed = now
        if grows:
            self.grew = now

    def since(self, now: float, *, out: bool) -> float:
        """Seconds since what a scaling out, or in, has to wait for.

        A scale-out holds up a scale-in, and not the other way round (StepScalingPolicyConfiguration, API reference).
        """
        return now - (self.grew if out else self.changed)


def desired_capacity(current: int, metric: float, target: float, bounds: Bounds) -> int:
    """Instances at which the metric would be at its target, within the bounds.

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
    """The capacity that target tracking wants after its latest datapoint, which is `current` where nothing breaches.

    points: since the last change, latest last. since_out, since_change: seconds as History.since gives them for
    scaling out and in.
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
    """The capacity that step scaling wants after its latest datapoint, as `track`."""
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
