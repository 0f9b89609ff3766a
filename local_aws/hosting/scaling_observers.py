"""What scaling policies observe: data points of one metric, and the capacity that follows from them."""

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.metrics import Metrics, dimensions, rate_metric
from local_aws.hosting.scalable import Scalable
from sizing.autoscaling import Bounds, MetricKind, Step, StepScaling, TargetTracking, step, track

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef as AlarmTypeDef

Document = dict[str, Any]
_OR_EQUAL = "GreaterThanOrEqualToThreshold"
_BREACHES = ("GreaterThanThreshold", _OR_EQUAL)
_NO_CAPACITY = "NoCapacityInvocationFailures"


@dataclass(frozen=True, slots=True)
class Waited:
    """Seconds, on the alarms' clock, since the events that cooldowns count from."""

    since_out: float
    since_change: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The capacity that a policy asks for, and why."""

    capacity: int
    cause: str


class Observer(ABC):
    """One policy's view of its metric since the policy was put.

    scale: how many times faster than real time alarms and cooldowns pass.
    """

    def __init__(self, policy: Document, metrics: Metrics, kind: MetricKind, scale: float) -> None:
        self.policy, self._metrics, self.kind = policy, metrics, kind
        self.scalable = Scalable.parse(policy["ResourceId"])
        self.points: deque[float] = deque(maxlen=max(kind.in_points, kind.out_points))
        self._period = kind.period / scale
        self._next_point: float | None = None
        self._last_total = 0

    @property
    def total(self) -> int:
        """Events so far that the metric counts."""
        return self._metrics.invocations[self.scalable.subject]

    def observe(self, fleet: VariantFleet, now: float) -> bool:
        """Take the data point that is due, if any; return whether there is a new one.

        now: seconds of a monotonic clock.
        """
        if self._next_point is None:
            self._last_total, self._next_point = self.total, now + self._period
            return False
        self.sample(fleet)
        if now < self._next_point:
            return False
        total = self.total
        self.points.append(self.point(total - self._last_total, max(1, len(fleet.ready))))
        self._last_total, self._next_point = total, now + self._period
        return True

    def sample(self, fleet: VariantFleet) -> None:  # noqa: B027 - only metrics of the moment need samples
        """Look at the fleet between two data points."""

    def point(self, events: int, ready: int) -> float:
        """Return the data point of a period; events: counted in it. ready: instances or copies that serve."""
        # Per minute of real time, whatever the compression, so that a target means the same load.
        return events * self.kind.period / self._period / ready

    def still_applies(self, alarms: "list[AlarmTypeDef]") -> bool:  # noqa: ARG002 - only steps depend on alarms
        """Return whether the policy can still be observed this way, after taking over changes of its alarm."""
        return True

    def applied(self) -> None:  # noqa: B027 - only target tracking begins anew
        """Forget what a change of capacity makes obsolete."""

    @abstractmethod
    def decide(self, current: int, bounds: Bounds, waited: Waited) -> Verdict | None:
        """Return the new capacity, or None to leave it."""


class TrackingObserver(Observer):
    """Target tracking on invocations."""

    def decide(self, current: int, bounds: Bounds, waited: Waited) -> Verdict | None:
        """Return the capacity that brings the metric to its target, or None to leave it."""
        settings = self.policy["TargetTrackingScalingPolicyConfiguration"]
        tracking = TargetTracking(
            target=float(settings["TargetValue"]),
            scale_out_cooldown=float(settings.get("ScaleOutCooldown", 300)),
            scale_in_cooldown=float(settings.get("ScaleInCooldown", 300)),
            scale_in=not settings.get("DisableScaleIn"),
        )
        points = list(self.points)
        new = track(
            tracking,
            self.kind,
            points,
            current,
            bounds,
            since_out=waited.since_out,
            since_change=waited.since_change,
        )
        if new == current:
            return None
        name, target = self.policy["PolicyName"], tracking.target
        return Verdict(new, f"policy {name}: the metric is {points[-1]:.1f}, its target {target}; from {current}")

    def applied(self) -> None:
        """Forget all data points: target tracking decides only from those after its last change."""
        self.points.clear()


class ConcurrencyObserver(TrackingObserver):
    """Target tracking on requests in flight, whose data point is the mean of samples."""

    def __init__(self, policy: Document, metrics: Metrics, kind: MetricKind, scale: float) -> None:
        super().__init__(policy, metrics, kind, scale)
        self._samples: list[int] = []

    def sample(self, fleet: VariantFleet) -> None:
        """Count the requests in flight."""
        self._samples.append(sum(replica.in_flight for replica in fleet.ready))

    def point(self, events: int, ready: int) -> float:  # noqa: ARG002 - it counts no events
        """Return the mean requests in flight per instance or copy."""
        mean = sum(self._samples) / len(self._samples)
        self._samples = []
        return mean / ready


class StepObserver(Observer):
    """Step scaling on an alarm over invocations."""

    def __init__(self, policy: Document, metrics: Metrics, alarm: "AlarmTypeDef", scale: float) -> None:
        super().__init__(policy, metrics, MetricKind(alarm["Period"], alarm["EvaluationPeriods"], 1), scale)
        self.alarm = alarm

    def still_applies(self, alarms: "list[AlarmTypeDef]") -> bool:
        """Return whether the policy still is the action of an alarm over the same metric and period."""
        alarm = _alarm_of(self.policy, self.scalable, alarms)
        if alarm is None or (alarm.get("MetricName"), alarm["Period"], alarm["EvaluationPeriods"]) != (
            self.alarm.get("MetricName"),
            self.alarm["Period"],
            self.alarm["EvaluationPeriods"],
        ):
            return False
        self.alarm = alarm
        return True

    def decide(self, current: int, bounds: Bounds, waited: Waited) -> Verdict | None:
        """Return the capacity after the step that the breach calls for, or None to leave it."""
        settings, alarm = self.policy["StepScalingPolicyConfiguration"], self.alarm
        steps = StepScaling(
            threshold=alarm["Threshold"],
            periods=alarm["EvaluationPeriods"],
            steps=tuple(
                Step(
                    float(each.get("MetricIntervalLowerBound", -math.inf)),
                    float(each.get("MetricIntervalUpperBound", math.inf)),
                    int(each["ScalingAdjustment"]),
                )
                for each in settings["StepAdjustments"]
            ),
            cooldown=float(settings.get("Cooldown", 0)),
            or_equal=alarm["ComparisonOperator"] == _OR_EQUAL,
        )
        points = list(self.points)
        new = step(steps, points, current, bounds, since_out=waited.since_out, since_change=waited.since_change)
        if new == current:
            return None
        name, threshold = self.policy["PolicyName"], alarm["Threshold"]
        return Verdict(new, f"policy {name}: the metric is {points[-1]:.1f}, over {threshold}; from {current}")


class RefusalObserver(StepObserver):
    """Step scaling on requests that found no copy, which starts the first one."""

    @property
    def total(self) -> int:
        """Refused requests so far."""
        return self._metrics.refusals[self.scalable.subject]

    def point(self, events: int, ready: int) -> float:  # noqa: ARG002 - refusals are not per instance
        """Return the refusals of a period, as the alarm's statistic has them: each refusal is a value of 1."""
        return min(float(events), 1.0) if self.alarm.get("Statistic") == "Maximum" else float(events)


def is_step(policy: Document) -> bool:
    """Return whether a policy scales by steps."""
    return bool(policy.get("PolicyType", "StepScaling") == "StepScaling")


def observer(policy: Document, metrics: Metrics, alarms: "list[AlarmTypeDef]", scale: float) -> Observer | None:
    """Return a policy's observer, or None for a step policy that is no alarm's action yet."""
    scalable = Scalable.parse(policy["ResourceId"])
    if is_step(policy):
        alarm = _alarm_of(policy, scalable, alarms)
        if alarm is None:
            return None
        kind = RefusalObserver if alarm.get("MetricName") == _NO_CAPACITY else StepObserver
        return kind(policy, metrics, alarm, scale)
    settings = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = scalable.metrics[str(settings["PredefinedMetricSpecification"]["PredefinedMetricType"])]
    tracking = TrackingObserver if metric.period == 60 else ConcurrencyObserver
    return tracking(policy, metrics, metric, scale)


def _alarm_of(policy: Document, scalable: Scalable, alarms: "list[AlarmTypeDef]") -> "AlarmTypeDef | None":
    """Return the alarm whose action a step policy is, where it is over invocations or over refused requests."""
    subject = scalable.subject
    known = ((rate_metric(subject), "Sum"), (_NO_CAPACITY, "Sum"), (_NO_CAPACITY, "Maximum"))
    for alarm in alarms:
        if (
            policy["PolicyARN"] in alarm["AlarmActions"]
            and (alarm.get("MetricName"), alarm.get("Statistic")) in known
            and alarm.get("ComparisonOperator") in _BREACHES
            and {each["Name"]: each["Value"] for each in alarm.get("Dimensions", [])} == dimensions(subject)
        ):
            return alarm
    return None
