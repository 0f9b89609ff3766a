"""Application Auto Scaling in the emulator: API calls go to the hosting process, whose replicas it scales."""

from collections.abc import Callable
from typing import Any

from local_aws.emulator.hosting import HostingError, Properties, call, forward
from local_aws.emulator.ministack.application import register_service
from local_aws.emulator.ministack.resources import Delete, Provisioned, register_resource

_PREFIX = "AnyScaleFrontendService"
_POLICIES = ("TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration")
_NUMBERS = frozenset(
    {
        "TargetValue", "ScaleInCooldown", "ScaleOutCooldown", "Cooldown", "MetricIntervalLowerBound",
        "MetricIntervalUpperBound", "ScalingAdjustment",
    }
)  # fmt: skip


def _target(properties: Properties) -> Properties:
    return {
        "ServiceNamespace": properties["ServiceNamespace"],
        "ScalableDimension": properties["ScalableDimension"],
        "ResourceId": properties["ResourceId"],
        "MinCapacity": int(properties["MinCapacity"]),
        "MaxCapacity": int(properties["MaxCapacity"]),
        **{name: properties[name] for name in ("RoleARN", "SuspendedState") if name in properties},
    }


def _physical_id(target: Properties) -> str:
    return "|".join([target["ResourceId"], target["ScalableDimension"], target["ServiceNamespace"]])


def _create_target(_logical_id: str, properties: Properties, _stack: str) -> Provisioned:
    target = _target(properties)
    call(f"{_PREFIX}.RegisterScalableTarget", target)
    for action in properties.get("ScheduledActions") or []:
        call(f"{_PREFIX}.PutScheduledAction", {**_identity(target), **action})
    return _physical_id(target), {"Id": _physical_id(target)}


def _update_target(_physical_id: str, old: Properties, new: Properties, stack: str) -> Provisioned:
    updated = _create_target("", new, stack)
    kept = {action["ScheduledActionName"] for action in new.get("ScheduledActions") or []}
    for action in old.get("ScheduledActions") or []:
        if (name := action["ScheduledActionName"]) not in kept:
            call(f"{_PREFIX}.DeleteScheduledAction", {**_identity(_target(new)), "ScheduledActionName": name})
    return updated


def _identity(target: Properties) -> Properties:
    return {name: target[name] for name in ("ServiceNamespace", "ScalableDimension", "ResourceId")}


def _create_policy(_logical_id: str, properties: Properties, _stack: str) -> Provisioned:
    request = {
        "PolicyName": properties["PolicyName"],
        "PolicyType": properties["PolicyType"],
        **_target_of(properties),
        **{kind: _numbers(properties[kind]) for kind in _POLICIES if kind in properties},
    }
    arn = call(f"{_PREFIX}.PutScalingPolicy", request)["PolicyARN"]
    return arn, {"Arn": arn, "PolicyName": request["PolicyName"], "Id": arn}


def _numbers(value: Any) -> Any:
    """Convert CloudFormation's text to numbers."""
    if isinstance(value, dict):
        return {name: float(member) if name in _NUMBERS else _numbers(member) for name, member in value.items()}
    return [_numbers(member) for member in value] if isinstance(value, list) else value


def _update_policy(_physical_id: str, _old: Properties, new: Properties, stack: str) -> Provisioned:
    return _create_policy("", new, stack)


def _of(target: str) -> Properties:
    """Return the members that identify a scalable target, from its physical ID."""
    resource, dimension, namespace = target.split("|")
    return {"ServiceNamespace": namespace, "ScalableDimension": dimension, "ResourceId": resource}


def _target_of(policy: Properties) -> Properties:
    """Return the members that identify a policy's target; a template may give its ID or each of them."""
    return _of(policy["ScalingTargetId"]) if "ScalingTargetId" in policy else _identity(policy)


def target_id(properties: Properties) -> str:
    """Return the physical ID of the scalable target that a template's properties describe."""
    return _physical_id(properties)


def has_target(physical_id: str) -> bool:
    """Return whether there is a scalable target of this physical ID; raise HostingError."""
    of = _of(physical_id)
    request = {"ServiceNamespace": of["ServiceNamespace"], "ResourceIds": [of["ResourceId"]]}
    return bool(call(f"{_PREFIX}.DescribeScalableTargets", request)["ScalableTargets"])


def policy_name(properties: Properties) -> str:
    """Return what tells a scaling policy from others: its name and its target."""
    return f"{properties['PolicyName']}|{_physical_id(_target_of(properties))}"


def policy_id(name: str) -> str:
    """Return a physical ID of the policy that `policy_name` names."""
    return f"policyName/{name.partition('|')[0]}"


def policy_properties(name: str) -> Properties:
    """Return the properties that name the target of the policy that `policy_name` names."""
    return {"ScalingTargetId": name.partition("|")[2]}


def has_policy(name: str) -> bool:
    """Return whether there is the policy that `policy_name` names; raise HostingError."""
    policy, _, target = name.partition("|")
    of = _of(target)
    request = {key: of[key] for key in ("ServiceNamespace", "ResourceId")} | {"PolicyNames": [policy]}
    return bool(call(f"{_PREFIX}.DescribeScalingPolicies", request)["ScalingPolicies"])


def _deleting(operation: str, request: Callable[[str, Properties], Properties]) -> Delete:
    def delete(physical_id: str, properties: Properties) -> None:
        try:
            call(f"{_PREFIX}.{operation}", request(physical_id, properties))
        except HostingError as error:
            if "No scal" not in str(error):
                raise

    return delete


def register() -> None:
    """Add the service and its CloudFormation types."""
    register_service(
        "application-autoscaling",
        forward,
        target_prefixes=[_PREFIX],
        host_patterns=[r"application-autoscaling\."],
        credential_scope="application-autoscaling",
    )
    register_resource(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        create=_create_target,
        update=_update_target,
        delete=_deleting("DeregisterScalableTarget", lambda i, _: _of(i)),
        replacing=("ResourceId",),
    )
    register_resource(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        create=_create_policy,
        update=_update_policy,
        delete=_deleting(
            "DeleteScalingPolicy",
            lambda i, properties: {"PolicyName": i.rpartition("policyName/")[2], **_target_of(properties)},
        ),
        replacing=("PolicyName",),
    )
