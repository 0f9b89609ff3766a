"""Application Auto Scaling's API: scalable targets, policies and scheduled actions, written to disk at every change."""

import contextlib
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_aws.account import ACCOUNT_ID, REGION, write_json
from local_aws.hosting.errors import ApiError
from local_aws.hosting.scalable import DIMENSIONS, Scalable
from sizing.autoscaling import Bounds
from sizing.schedules import next_due

Document = dict[str, Any]
_ACTIVITIES = 100


class ScalingRecords:
    """Targets by resource, policies by name, and scheduled actions, with the API that changes them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._targets: dict[str, Document] = {}
        self.policies: dict[str, Document] = {}
        self._schedules: dict[tuple[str, str], Document] = {}
        self._due: dict[tuple[str, str], datetime | None] = {}
        self._activities: deque[Document] = deque(maxlen=_ACTIVITIES)
        self._handlers: dict[str, Callable[[Document], Document]] = {
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

    def read(self) -> None:
        """Read what an earlier process wrote; no-op where there was none."""
        with contextlib.suppress(FileNotFoundError):
            content = json.loads(self._file.read_text())
            self._targets, self.policies = content["targets"], content["policies"]
            for action in content["schedules"]:
                self._schedule(action, datetime.now(UTC))

    @property
    def operations(self) -> frozenset[str]:
        """Operations of the API that the local account has."""
        return frozenset(self._handlers)

    def handle(self, operation: str, request: Document) -> Document:
        """Respond to one API call; raise ApiError."""
        if operation not in self._handlers:
            raise ApiError(
                "UnknownOperationException",
                f"the local account does not implement Application Auto Scaling {operation}; "
                f"it has {', '.join(self._handlers)}",
            )
        return self._handlers[operation](request)

    def bounds(self, resource: str) -> Bounds:
        """Return the bounds of a target."""
        return Bounds(self._targets[resource]["MinCapacity"], self._targets[resource]["MaxCapacity"])

    def begin_due(self, moment: datetime) -> Iterator[tuple[str, str, Document]]:
        """Set the bounds of every scheduled action that is due; yield its resource, name and bounds."""
        for key, due in list(self._due.items()):
            if due is None or due > moment:
                continue
            action = self._schedules[key]
            bounds = action["ScalableTargetAction"]
            changed = {name: int(bounds[name]) for name in ("MinCapacity", "MaxCapacity") if name in bounds}
            self._targets[key[0]] |= changed
            self._schedule(action, moment)
            self._save()
            yield *key, bounds

    def record_activity(self, scalable: Scalable, resource: str, capacity: int, cause: str) -> None:
        """Add a scaling activity, which DescribeScalingActivities returns."""
        self._activities.appendleft(
            {
                "ActivityId": str(uuid.uuid4()),
                "ServiceNamespace": "sagemaker",
                "ResourceId": resource,
                "ScalableDimension": scalable.dimension,
                "Description": f"Setting desired {scalable.noun} count to {capacity}.",
                "Cause": cause,
                "StartTime": time.time(),
                "StatusCode": "Successful",
            }
        )

    def _register(self, request: Document) -> Document:
        resource = request["ResourceId"]
        if request.get("ServiceNamespace") != "sagemaker" or request.get("ScalableDimension") not in DIMENSIONS:
            raise ApiError(
                "ValidationException", f"the local account only scales sagemaker's {' and '.join(DIMENSIONS)}"
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
        for name in [name for name, policy in self.policies.items() if policy["ResourceId"] == resource]:
            del self.policies[name]
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
        # A new object, since observers of a policy begin anew with another one.
        self.policies[name] = {**request, "PolicyARN": arn, "CreationTime": time.time()}
        self._save()
        return {"PolicyARN": arn, "Alarms": []}

    def _delete_policy(self, request: Document) -> Document:
        if self.policies.pop(request["PolicyName"], None) is None:
            raise ApiError("ObjectNotFoundException", f"No scaling policy found with name {request['PolicyName']}")
        self._save()
        return {}

    def _describe_targets(self, request: Document) -> Document:
        wanted = request.get("ResourceIds")
        return {"ScalableTargets": [t for r, t in self._targets.items() if not wanted or r in wanted]}

    def _describe_policies(self, request: Document) -> Document:
        names, resource = request.get("PolicyNames"), request.get("ResourceId")
        return {
            "ScalingPolicies": [
                policy
                for name, policy in self.policies.items()
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

    def _save(self) -> None:
        # The account may have been stopped, and its folder be gone.
        with contextlib.suppress(FileNotFoundError):
            write_json(
                self._file,
                {"targets": self._targets, "policies": self.policies, "schedules": [*self._schedules.values()]},
            )


def _check_tracking(settings: Document, scalable: Scalable) -> None:
    metric = (settings.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    if metric not in scalable.metrics:
        raise ApiError("ValidationException", f"the metric is {metric!r}: supported are {', '.join(scalable.metrics)}")
    if float(settings["TargetValue"]) <= 0:
        raise ApiError("ValidationException", f"TargetValue is {settings['TargetValue']}: it must be above 0")


def _check_steps(request: Document) -> None:
    settings = request.get("StepScalingPolicyConfiguration") or {}
    adjustment = settings.get("AdjustmentType")
    if adjustment != "ChangeInCapacity":
        raise ApiError("ValidationException", f"AdjustmentType is {adjustment!r}: only ChangeInCapacity is supported")
    if not settings.get("StepAdjustments"):
        raise ApiError("ValidationException", "StepAdjustments is empty: give at least one")


def _arn(rest: str) -> str:
    return f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT_ID}:{rest}"
