"""Application Auto Scaling for variants and components: target tracking, steps and schedules, with their cooldowns."""

import asyncio
import contextlib
import json
import math
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.account import ACCOUNT_ID, REGION, time_scale, write_json
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.metrics import Metrics, dimensions, rate_metric
from local_aws.hosting.scalable import DIMENSIONS, Scalable
from sizing.autoscaling import Bounds, History, MetricKind, Step, StepScaling, TargetTracking, step, track
from sizing.schedules import next_due

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef as AlarmTypeDef

Document = dict[str, Any]
_ACTIVITIES = 100
_ALARMS_SECONDS = 5.0
"""How often the alarms are read, whose actions step policies are."""
_OR_EQUAL = "GreaterThanOrEqualToThreshold"
_BREACHES = ("GreaterThanThreshold", _OR_EQUAL)
_NO_CAPACITY = "NoCapacityInvocationFailures"


@dataclass
class _Tracker:
    """What a policy has seen since it was put."""

    points: deque[float]
    last_total: int = 0
    next_point: float = 0.0
    concurrency: list[int] = field(default_factory=list)


class ScalingService:
    """Holds targets and policies, written to disk at every change, and applies them."""

    def __init__(self, state: Path, control: ControlPlane, metrics: Metrics) -> None:
        self._file = state / "scaling.json"
        self._control, self._metrics = control, metrics
        self._targets: dict[str, Document] = {}
        self._policies: dict[str, Document] = {}
        self._schedules: dict[tuple[str, str], Document] = {}
        self._due: dict[tuple[str, str], datetime | None] = {}
        self._alarms: list[AlarmTypeDef] = []
        self._activities: deque[Document] = deque(maxlen=_ACTIVITIES)
        self._trackers: dict[str, _Tracker] = {}
        self._histories: defaultdict[str, History] = defaultdict(History)
        self._scale = time_scale()

    def restore(self) -> None:
        """Reads what an earlier process wrote."""
        with contextlib.suppress(FileNotFoundError):
            content = json.loads(self._file.read_text())
            self._targets, self._policies = content["targets"], content["policies"]
            for action in content["schedules"]:
                self._schedule(action, datetime.now(UTC))

    def handle(self, operation: str, request: Document) -> Document:
        """Answers one API call; raises ApiError."""
        handlers: dict[str, Callable[[Document], Document]] = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._describe_targets,
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "DescribeScalingActivities": self._describe_activities,
            "PutScheduledAction": self._put_schedule,
            "DeleteScheduledAction": self._delete_schedule,
            "DescribeScheduledActions": self._describe_schedules,
        }
        if operation not in handlers:
            raise ApiError(
                "UnknownOperationException",
                f"the local account does not implement Application Auto Scaling {operation}; "
                f"it has {', '.join(handlers)}",
            )
        return handlers[operation](request)

    async def run(self) -> None:
        """Evaluates every policy and schedule when it is due, for as long as the process runs."""
        read = 0.0
        while True:
            await asyncio.sleep(min(1.0, 10 / self._scale / 5))
            now = time.monotonic()
            if now - read >= _ALARMS_SECONDS and any(_is_step(policy) for policy in self._policies.values()):
                read = now
                with contextlib.suppress(ClientError, BotoCoreError):
                    self.take_alarms(await asyncio.to_thread(_read_alarms))
            self.evaluate(now, datetime.now(UTC))

    def take_alarms(self, alarms: "list[AlarmTypeDef]") -> None:
        """Sets the alarms that step policies are the actions of."""
        self._alarms = alarms

    def evaluate(self, now: float, moment: datetime) -> None:
        """Takes the datapoints and the scheduled actions that are due, and scales where they say so.

        now: seconds of a monotonic clock. moment: the time of day, aware.
        """
        for key, due in list(self._due.items()):
            if due is not None and due <= moment:
                self._act(key, moment, now)
        for name, policy in list(self._policies.items()):
            self._observe(name, policy, now)

    def _register(self, request: Document) -> Document:
        resource = request["ResourceId"]
        if request.get("ServiceNamespace") != "sagemaker" or request.get("ScalableDimension") not in DIMENSIONS:
            raise ApiError(
                "ValidationException", f"the local account scales sagemaker's {' and '.join(DIMENSIONS)} only"
            )
        scalable = Scalable.parse(resource)
        if request["ScalableDimension"] != scalable.dimension:
            raise ApiError("ValidationException", f"ScalableDimension of {resource} is {scalable.dimension}")
        target = {**self._targets.get(resource, {"CreationTime": time.time()}), **request}
        minimum, maximum = int(target["MinCapacity"]), int(target["MaxCapacity"])
        if not scalable.least <= minimum <= maximum:
            raise ApiError(
                "ValidationException",
                f"MinCapacity is {minimum} and MaxCapacity {maximum}: {scalable.least} <= minimum <= maximum",
            )
        target |= {"MinCapacity": minimum, "MaxCapacity": maximum}
        target["ScalableTargetARN"] = _arn(f"scalable-target/{uuid.uuid5(uuid.NAMESPACE_URL, resource).hex}")
        self._targets[resource] = target
        self._save()
        return {"ScalableTargetARN": target["ScalableTargetARN"]}

    def _deregister(self, request: Document) -> Document:
        resource = request["ResourceId"]
        if self._targets.pop(resource, None) is None:
            raise ApiError("ObjectNotFoundException", f"No scalable target found for {resource}")
        for name in [name for name, policy in self._policies.items() if policy["ResourceId"] == resource]:
            self._forget(name)
        for key in [key for key in self._schedules if key[0] == resource]:
            del self._schedules[key], self._due[key]
        self._save()
        return {}

    def _put_policy(self, request: Document) -> Document:
        resource, name = request["ResourceId"], request["PolicyName"]
        if resource not in self._targets:
            raise ApiError("ObjectNotFoundException", f"No scalable target registered for {resource}")
        if request.get("PolicyType", "StepScaling") == "TargetTrackingScaling":
            _check_tracking(request["TargetTrackingScalingPolicyConfiguration"], Scalable.parse(resource))
        else:
            _check_steps(request)
        arn = _arn(f"scalingPolicy:{uuid.uuid5(uuid.NAMESPACE_URL, f'{resource} {name}')}:policyName/{name}")
        self._forget(name)
        self._policies[name] = {**request, "PolicyARN": arn, "CreationTime": time.time()}
        self._save()
        return {"PolicyARN": arn, "Alarms": []}

    def _delete_policy(self, request: Document) -> Document:
        if request["PolicyName"] not in self._policies:
            raise ApiError("ObjectNotFoundException", f"No scaling policy found with name {request['PolicyName']}")
        self._forget(request["PolicyName"])
        self._save()
        return {}

    def _forget(self, name: str) -> None:
        self._policies.pop(name, None)
        self._trackers.pop(name, None)

    def _describe_targets(self, request: Document) -> Document:
        wanted = request.get("ResourceIds")
        return {"ScalableTargets": [t for r, t in self._targets.items() if not wanted or r in wanted]}

    def _describe_policies(self, request: Document) -> Document:
        names, resource = request.get("PolicyNames"), request.get("ResourceId")
        return {
            "ScalingPolicies": [
                policy
                for name, policy in self._policies.items()
                if (not names or name in names) and (not resource or policy["ResourceId"] == resource)
            ]
        }

    def _describe_activities(self, request: Document) -> Document:
        resource = request.get("ResourceId")
        return {"ScalingActivities": [a for a in self._activities if not resource or a["ResourceId"] == resource]}

    def _put_schedule(self, request: Document) -> Document:
        if request["ResourceId"] not in self._targets:
            raise ApiError("ObjectNotFoundException", f"No scalable target registered for {request['ResourceId']}")
        try:
            self._schedule(request, datetime.now(UTC))
        except ValueError as error:
            raise ApiError("ValidationException", str(error)) from error
        self._save()
        return {}

    def _schedule(self, request: Document, after: datetime) -> None:
        key = (request["ResourceId"], request["ScheduledActionName"])
        self._due[key] = next_due(request["Schedule"], request.get("Timezone") or "UTC", after)
        self._schedules[key] = request

    def _delete_schedule(self, request: Document) -> Document:
        key = (request["ResourceId"], request["ScheduledActionName"])
        if self._schedules.pop(key, None) is None:
            raise ApiError("ObjectNotFoundException", f"No scheduled action found with name {key[1]}")
        del self._due[key]
        self._save()
        return {}

    def _describe_schedules(self, request: Document) -> Document:
        resource = request.get("ResourceId")
        return {
            "ScheduledActions": [
                action for (owner, _), action in self._schedules.items() if not resource or owner == resource
            ]
        }

    def _act(self, key: tuple[str, str], moment: datetime, now: float) -> None:
        action = self._schedules[key]
        target = self._targets[key[0]]
        bounds = action["ScalableTargetAction"]
        target |= {name: int(bounds[name]) for name in ("MinCapacity", "MaxCapacity") if name in bounds}
        self._schedule(action, moment)
        self._save()
        fleet = Scalable.parse(key[0]).fleet(self._control)
        if fleet is None:
            return
        new = self._bounds(key[0]).hold(fleet.desired)
        if new != fleet.desired:
            self._apply(key[0], new, f"scheduled action {key[1]}: bounds {bounds}; from {fleet.desired}", now)

    def _observe(self, name: str, policy: Document, now: float) -> None:
        resource = policy["ResourceId"]
        scalable = Scalable.parse(resource)
        fleet = scalable.fleet(self._control)
        alarm = self._alarm(policy) if _is_step(policy) else None
        if fleet is None or (_is_step(policy) and alarm is None):
            return
        kind = (
            scalable.metrics[_metric(policy)]
            if alarm is None
            else MetricKind(alarm["Period"], alarm["EvaluationPeriods"], 1)
        )
        period = kind.period / self._scale
        refusals = alarm is not None and alarm.get("MetricName") == _NO_CAPACITY
        total = (self._metrics.refusals if refusals else self._metrics.invocations)[scalable.subject]
        tracker = self._trackers.get(name)
        if tracker is None:
            size = max(kind.in_points, kind.out_points)
            self._trackers[name] = _Tracker(deque(maxlen=size), total, now + period)
            return
        ready = max(1, len(fleet.ready))
        tracker.concurrency.append(sum(replica.in_flight for replica in fleet.ready))
        if now < tracker.next_point:
            return
        if alarm is not None and refusals:
            point: float = total - tracker.last_total
            # Each refusal is a value of 1.
            point = min(point, 1.0) if alarm.get("Statistic") == "Maximum" else point
        elif _is_step(policy) or kind.period == 60:
            # Per minute of real time whatever the compression, so that a target means the same load.
            point = (total - tracker.last_total) * kind.period / period / ready
        else:
            point = sum(tracker.concurrency) / len(tracker.concurrency) / ready
        tracker.last_total, tracker.next_point, tracker.concurrency = total, now + period, []
        tracker.points.append(point)
        if alarm is not None:
            self._step(policy, alarm, tracker, fleet.desired, now)
        else:
            self._decide(policy, kind, tracker, fleet.desired, now)

    def _alarm(self, policy: Document) -> "AlarmTypeDef | None":
        """The alarm whose action a step policy is, where it is one over invocations, or over requests refused."""
        subject = Scalable.parse(policy["ResourceId"]).subject
        for alarm in self._alarms:
            if (
                policy["PolicyARN"] in alarm["AlarmActions"]
                and (alarm.get("MetricName"), alarm.get("Statistic"))
                in ((rate_metric(subject), "Sum"), (_NO_CAPACITY, "Sum"), (_NO_CAPACITY, "Maximum"))
                and alarm.get("ComparisonOperator") in _BREACHES
                and {each["Name"]: each["Value"] for each in alarm.get("Dimensions", [])} == dimensions(subject)
            ):
                return alarm
        return None

    def _step(self, policy: Document, alarm: "AlarmTypeDef", tracker: _Tracker, current: int, now: float) -> None:
        settings = policy["StepScalingPolicyConfiguration"]
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
        resource, points = policy["ResourceId"], list(tracker.points)
        new = step(steps, points, current, self._bounds(resource), **self._waited(resource, now))
        if new != current:
            threshold = alarm["Threshold"]
            cause = f"policy {policy['PolicyName']}: the metric is {points[-1]:.1f}, over {threshold}; from {current}"
            self._apply(resource, new, cause, now)

    def _decide(self, policy: Document, kind: MetricKind, tracker: _Tracker, current: int, now: float) -> None:
        resource, points = policy["ResourceId"], list(tracker.points)
        settings = policy["TargetTrackingScalingPolicyConfiguration"]
        tracking = TargetTracking(
            target=float(settings["TargetValue"]),
            scale_out_cooldown=float(settings.get("ScaleOutCooldown", 300)),
            scale_in_cooldown=float(settings.get("ScaleInCooldown", 300)),
            scale_in=not settings.get("DisableScaleIn"),
        )
        new = track(tracking, kind, points, current, self._bounds(resource), **self._waited(resource, now))
        if new != current:
            cause = (
                f"policy {policy['PolicyName']}: the metric is {points[-1]:.1f}, its target {tracking.target}; "
                f"from {current}"
            )
            self._apply(resource, new, cause, now)
            tracker.points.clear()

    def _bounds(self, resource: str) -> Bounds:
        return Bounds(self._targets[resource]["MinCapacity"], self._targets[resource]["MaxCapacity"])

    def _waited(self, resource: str, now: float) -> dict[str, float]:
        """Seconds of the alarms' time since what scaling out and in wait for."""
        history = self._histories[resource]
        return {
            "since_out": history.since(now, out=True) * self._scale,
            "since_change": history.since(now, out=False) * self._scale,
        }

    def _apply(self, resource: str, new: int, cause: str, now: float) -> None:
        scalable = Scalable.parse(resource)
        fleet = scalable.fleet(self._control)
        grows = fleet is not None and new > fleet.desired
        try:
            scalable.resize(self._control, new)
        except ApiError:
            # It is being updated: the next datapoint decides again.
            return
        self._histories[resource].record(now, grows=grows)
        self._activities.appendleft(
            {
                "ActivityId": str(uuid.uuid4()),
                "ServiceNamespace": "sagemaker",
                "ResourceId": resource,
                "ScalableDimension": scalable.dimension,
                "Description": f"Setting desired {scalable.noun} count to {new}.",
                "Cause": cause,
                "StartTime": time.time(),
                "StatusCode": "Successful",
            }
        )

    def _save(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            write_json(
                self._file,
                {"targets": self._targets, "policies": self._policies, "schedules": [*self._schedules.values()]},
            )


def _is_step(policy: Document) -> bool:
    return bool(policy.get("PolicyType", "StepScaling") == "StepScaling")


def _metric(policy: Document) -> str:
    settings = policy["TargetTrackingScalingPolicyConfiguration"]
    return str(settings["PredefinedMetricSpecification"]["PredefinedMetricType"])


def _check_tracking(settings: Document, scalable: Scalable) -> None:
    metric = (settings.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    if metric not in scalable.metrics:
        raise ApiError("ValidationException", f"the metric is {metric!r}: known here are {', '.join(scalable.metrics)}")
    if float(settings["TargetValue"]) <= 0:
        raise ApiError("ValidationException", f"TargetValue is {settings['TargetValue']}: it must be above 0")


def _check_steps(request: Document) -> None:
    settings = request.get("StepScalingPolicyConfiguration") or {}
    adjustment = settings.get("AdjustmentType")
    if adjustment != "ChangeInCapacity":
        raise ApiError("ValidationException", f"AdjustmentType is {adjustment!r}: ChangeInCapacity is known here")
    if not settings.get("StepAdjustments"):
        raise ApiError("ValidationException", "StepAdjustments is empty: give at least one")


def _read_alarms() -> "list[AlarmTypeDef]":
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def _arn(rest: str) -> str:
    return f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT_ID}:{rest}"
