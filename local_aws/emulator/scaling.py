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
    }


def _physical_id(target: Properties) -> str:
    return "|".join([target["ResourceId"], target["ScalableDimension"], target["ServiceNamespace"]])


def _create_target(logical_id: str, properties: Properties, stack: str) -> Provisioned:  # noqa: ARG001 - MiniStack passes them
    target = _target(properties)
    call(f"{_PREFIX}.RegisterScalableTarget", target)
    for action in properties.get("ScheduledActions") or []:
        call(f"{_PREFIX}.PutScheduledAction", {**_identity(target), **action})
    return _physical_id(target), {"Id": _physical_id(target)}


def _update_target(physical_id: str, old: Properties, new: Properties, stack: str) -> Provisioned:  # noqa: ARG001 - MiniStack passes it
    updated = _create_target("", new, stack)
    kept = {action["ScheduledActionName"] for action in new.get("ScheduledActions") or []}
    for action in old.get("ScheduledActions") or []:
        if (name := action["ScheduledActionName"]) not in kept:
            call(f"{_PREFIX}.DeleteScheduledAction", {**_identity(_target(new)), "ScheduledActionName": name})
    return updated


def _identity(target: Properties) -> Properties:
    return {name: target[name] for name in ("ServiceNamespace", "ScalableDimension", "ResourceId")}


def _create_policy(logical_id: str, properties: Properties, stack: str) -> Provisioned:  # noqa: ARG001 - MiniStack passes them
    resource, dimension, namespace = properties["ScalingTargetId"].split("|")
    request = {
        "PolicyName": properties["PolicyName"],
        "PolicyType": properties["PolicyType"],
        "ServiceNamespace": namespace,
        "ScalableDimension": dimension,
        "ResourceId": resource,
        **{kind: _numbers(properties[kind]) for kind in _POLICIES if kind in properties},
    }
    arn = call(f"{_PREFIX}.PutScalingPolicy", request)["PolicyARN"]
    return arn, {"Arn": arn, "PolicyName": request["PolicyName"], "Id": arn}


def _numbers(value: Any) -> Any:
    """Convert CloudFormation's text to numbers."""
    if isinstance(value, dict):
        return {name: float(member) if name in _NUMBERS else _numbers(member) for name, member in value.items()}
    return [_numbers(member) for member in value] if isinstance(value, list) else value


def _update_policy(physical_id: str, old: Properties, new: Properties, stack: str) -> Provisioned:  # noqa: ARG001 - MiniStack passes them
    return _create_policy("", new, stack)


def _deleting(operation: str, request: Callable[[str], Properties]) -> Delete:
    def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes it
        try:
            call(f"{_PREFIX}.{operation}", request(physical_id))
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
        delete=_deleting("DeregisterScalableTarget", lambda i: {"ResourceId": i.split("|")[0]}),
        replacing=("ResourceId",),
    )
    register_resource(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        create=_create_policy,
        update=_update_policy,
        delete=_deleting("DeleteScalingPolicy", lambda i: {"PolicyName": i.rpartition("policyName/")[2]}),
        replacing=("PolicyName",),
    )
