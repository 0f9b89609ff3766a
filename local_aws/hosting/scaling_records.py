"""Application Auto Scaling's API: scalable targets, policies and scheduled actions, written to disk at every change."""

import contextlib
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_aws.account import ACCOUNT_ID, REGION, write_json
from local_aws.hosting import pages
from local_aws.hosting.errors import ApiError, refused
from local_aws.hosting.scalable import Scalable
from local_aws.hosting.scaling_checks import NAMESPACE, absent, check_bounds, check_policy, check_target, identified
from sizing.autoscaling import Bounds
from sizing.schedules import next_due

Document = dict[str, Any]
Key = tuple[str, str]
"""A resource's ID, and the name of one of its policies or scheduled actions."""
_ACTIVITIES = 100
_PAGE = 50
_POLICIES_PAGE = 10
_SUSPENSIONS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
_ROLE = (
    f"arn:aws:iam::{ACCOUNT_ID}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


class ScalingRecords:
    """Targets by resource, policies and scheduled actions by resource and name, with the API that changes them.

    A resource's ID determines its namespace and its dimension, so it alone identifies a target.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._targets: dict[str, Document] = {}
        self.policies: dict[Key, Document] = {}
        self._schedules: dict[Key, Document] = {}
        self._due: dict[Key, datetime | None] = {}
        self._activities: deque[Document] = deque(maxlen=_ACTIVITIES)
        self._tags: dict[str, dict[str, str]] = {}
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
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    def read(self) -> None:
        """Read what an earlier process wrote; no-op where there was none."""
        with contextlib.suppress(FileNotFoundError):
            content = json.loads(self._file.read_text())
            self._targets, self._tags = content["targets"], content["tags"]
            self.policies = {(each["ResourceId"], each["PolicyName"]): each for each in content["policies"]}
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

    def has(self, resource: str) -> bool:
        """Return whether a resource is a scalable target."""
        return resource in self._targets

    def bounds(self, resource: str) -> Bounds:
        """Return the bounds of a target."""
        return Bounds(self._targets[resource]["MinCapacity"], self._targets[resource]["MaxCapacity"])

    def suspended(self, resource: str, *, out: bool) -> bool:
        """Return whether policies of a target may not scale out, or in."""
        name = "DynamicScalingOutSuspended" if out else "DynamicScalingInSuspended"
        return bool(self._targets[resource]["SuspendedState"][name])

    def begin_due(self, moment: datetime) -> Iterator[tuple[str, str, Document]]:
        """Set the bounds of every scheduled action that is due; yield its resource, name and bounds."""
        for key, due in list(self._due.items()):
            if due is None or due > moment:
                continue
            action, target = self._schedules[key], self._targets[key[0]]
            self._schedule(action, moment)
            if target["SuspendedState"]["ScheduledScalingSuspended"]:
                continue
            bounds = action["ScalableTargetAction"]
            target |= {name: int(bounds[name]) for name in ("MinCapacity", "MaxCapacity") if name in bounds}
            self._save()
            yield *key, bounds

    def forget(self, resources: Callable[[Scalable], bool]) -> None:
        """Deregister the targets whose resources are gone."""
        for resource in [each for each in self._targets if resources(Scalable.parse(each))]:
            self._drop(resource)

    def record_activity(self, scalable: Scalable, resource: str, capacity: int, cause: str) -> None:
        """Add a scaling activity, which DescribeScalingActivities returns."""
        now = time.time()
        self._activities.appendleft(
            {
                "ActivityId": str(uuid.uuid4()),
                "ServiceNamespace": NAMESPACE,
                "ResourceId": resource,
                "ScalableDimension": scalable.dimension,
                "Description": f"Setting desired {scalable.noun} count to {capacity}.",
                "Cause": cause,
                "StartTime": now,
                "EndTime": now,
                "StatusCode": "Successful",
                "StatusMessage": f"Successfully set desired {scalable.noun} count to {capacity}.",
            }
        )

    def _register(self, request: Document) -> Document:
        request = identified(request)
        resource = request["ResourceId"]
        known = self._targets.get(resource) or {"CreationTime": time.time(), "RoleARN": _ROLE}
        suspended = {
            **dict.fromkeys(_SUSPENSIONS, False),
            **known.get("SuspendedState", {}),
            **(request.get("SuspendedState") or {}),
        }
        target = {**known, **request, "SuspendedState": suspended}
        tags = target.pop("Tags", None) or {}
        check_target(target)
        arn = _arn("application-autoscaling", f"scalable-target/{uuid.uuid5(uuid.NAMESPACE_URL, resource).hex}")
        self._targets[resource] = {**target, "ScalableTargetARN": arn}
        self._tags.setdefault(arn, {}).update(tags)
        self._save()
        return {"ScalableTargetARN": arn}

    def _deregister(self, request: Document) -> Document:
        request = identified(request)
        if not self._matching([self._targets.get(request["ResourceId"])], request):
            raise absent("scalable target found", request)
        self._drop(request["ResourceId"])
        return {}

    def _drop(self, resource: str) -> None:
        self._tags.pop(self._targets.pop(resource)["ScalableTargetARN"], None)
        for key in [key for key in self.policies if key[0] == resource]:
            del self.policies[key]
        for key in [key for key in self._schedules if key[0] == resource]:
            del self._schedules[key], self._due[key]
        self._save()

    def _put_policy(self, request: Document) -> Document:
        request = identified(request)
        self._check_registered(request)
        key = request["ResourceId"], request["PolicyName"]
        known = self.policies.get(key, {})
        policy = {
            "PolicyType": known.get("PolicyType", "StepScaling"),
            **request,
            "PolicyARN": _resource_arn("scalingPolicy", key, "policyName"),
            "CreationTime": known.get("CreationTime", time.time()),
            "Alarms": [],
        }
        check_policy(policy)
        # A new object, since observers of a policy begin anew with another one.
        self.policies[key] = policy
        self._save()
        return {"PolicyARN": policy["PolicyARN"], "Alarms": []}

    def _delete_policy(self, request: Document) -> Document:
        name = request["PolicyName"]
        if "ResourceId" not in request:
            # A template's handler knows a policy by its name alone.
            owners = [resource for resource, each in self.policies if each == name]
            if len(owners) > 1:
                raise refused(f"PolicyName {name} is used by {', '.join(owners)}: ResourceId is missing")
            if not owners:
                raise ApiError("ObjectNotFoundException", f"No scaling policy found with name {name}")
            request = {**request, "ResourceId": owners[0]}
        request = identified(request)
        key = request["ResourceId"], name
        if not self._matching([self.policies.get(key)], request):
            raise absent(f"scaling policy found with name {name}", request)
        del self.policies[key]
        self._save()
        return {}

    def _describe_targets(self, request: Document) -> Document:
        wanted = request.get("ResourceIds")
        rows = [each for each in self._targets.values() if not wanted or each["ResourceId"] in wanted]
        return _page("ScalableTargets", self._matching(rows, request), request)

    def _describe_policies(self, request: Document) -> Document:
        names = request.get("PolicyNames")
        rows = [each for each in self.policies.values() if not names or each["PolicyName"] in names]
        return _page("ScalingPolicies", self._matching(rows, request), request, _POLICIES_PAGE)

    def _describe_activities(self, request: Document) -> Document:
        return _page("ScalingActivities", self._matching(self._activities, request), request)

    def _put_schedule(self, request: Document) -> Document:
        request = identified(request)
        self._check_registered(request)
        key = request["ResourceId"], request["ScheduledActionName"]
        known = self._schedules.get(key, {"CreationTime": time.time()})
        action = {
            **known,
            **request,
            "ScheduledActionARN": _resource_arn("scheduledAction", key, "scheduledActionName"),
        }
        for name in ("Schedule", "ScalableTargetAction"):
            if not action.get(name):
                raise refused(f"{name} is missing: it is required to create a scheduled action")
        bounds, current = action["ScalableTargetAction"], self.bounds(key[0])
        minimum = int(bounds.get("MinCapacity", current.minimum))
        check_bounds(minimum, int(bounds.get("MaxCapacity", max(minimum, current.maximum))), Scalable.parse(key[0]))
        try:
            self._schedule(action, datetime.now(UTC))
        except ValueError as error:
            raise refused(str(error)) from error
        self._save()
        return {}

    def _schedule(self, action: Document, after: datetime) -> None:
        """Set an action's next time, which lies between its StartTime and its EndTime."""
        key = action["ResourceId"], action["ScheduledActionName"]
        if "StartTime" in action:
            after = max(after, datetime.fromtimestamp(action["StartTime"], UTC))
        due = next_due(action["Schedule"], action.get("Timezone") or "UTC", after)
        if due is not None and "EndTime" in action and due > datetime.fromtimestamp(action["EndTime"], UTC):
            due = None
        self._due[key], self._schedules[key] = due, action

    def _delete_schedule(self, request: Document) -> Document:
        request = identified(request)
        key = request["ResourceId"], request["ScheduledActionName"]
        if not self._matching([self._schedules.get(key)], request):
            raise absent(f"scheduled action found with name {key[1]}", request)
        del self._schedules[key], self._due[key]
        self._save()
        return {}

    def _describe_schedules(self, request: Document) -> Document:
        names = request.get("ScheduledActionNames")
        rows = [each for each in self._schedules.values() if not names or each["ScheduledActionName"] in names]
        return _page("ScheduledActions", self._matching(rows, request), request)

    def _tag(self, request: Document) -> Document:
        self._tags_of(request).update(request["Tags"])
        self._save()
        return {}

    def _untag(self, request: Document) -> Document:
        tags = self._tags_of(request)
        for key in request["TagKeys"]:
            tags.pop(key, None)
        self._save()
        return {}

    def _list_tags(self, request: Document) -> Document:
        return {"Tags": dict(self._tags_of(request))}

    def _tags_of(self, request: Document) -> dict[str, str]:
        if request["ResourceARN"] not in self._tags:
            raise ApiError("ResourceNotFoundException", f"No scalable target has the ARN {request['ResourceARN']}")
        return self._tags[request["ResourceARN"]]

    def _check_registered(self, request: Document) -> None:
        if not self._matching([self._targets.get(request["ResourceId"])], request):
            raise absent("scalable target registered", request)

    def _matching(self, rows: Iterable[Document | None], request: Document) -> list[Document]:
        """Return the rows of the namespace, the resource and the dimension that a request names."""
        names = [name for name in ("ServiceNamespace", "ResourceId", "ScalableDimension") if name in request]
        return [row for row in rows if row is not None and all(row[name] == request[name] for name in names)]

    def _save(self) -> None:
        # The account may have been stopped, and its folder be gone.
        with contextlib.suppress(FileNotFoundError):
            write_json(
                self._file,
                {
                    "targets": self._targets,
                    "policies": [*self.policies.values()],
                    "schedules": [*self._schedules.values()],
                    "tags": self._tags,
                },
            )


def _page(member: str, rows: list[Document], request: Document, size: int = _PAGE) -> Document:
    most = request.get("MaxResults", size)
    if not 1 <= most <= _PAGE:
        raise refused(f"MaxResults is {most}: it must be 1 to {_PAGE}")
    return pages.page(
        member, rows, {**request, "MaxResults": min(most, size)}, size=size, error="InvalidNextTokenException"
    )


def _resource_arn(kind: str, key: Key, name: str) -> str:
    identity = uuid.uuid5(uuid.NAMESPACE_URL, " ".join((kind, *key)))
    return _arn("autoscaling", f"{kind}:{identity}:resource/{NAMESPACE}/{key[0]}:{name}/{key[1]}")


def _arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{rest}"
