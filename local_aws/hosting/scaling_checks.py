"""Application Auto Scaling's rules for requests, beyond those of its service model."""

from typing import Any

from local_aws.hosting.errors import ApiError, refused
from local_aws.hosting.scalable import DIMENSIONS, Scalable

Document = dict[str, Any]
NAMESPACE = "sagemaker"
_TRACKING = "TargetTrackingScalingPolicyConfiguration"
_STEPS = "StepScalingPolicyConfiguration"


def identified(request: Document) -> Document:
    """Return a request with its namespace and dimension, which templates' handlers leave to the resource."""
    dimension = Scalable.parse(request["ResourceId"]).dimension
    return {"ServiceNamespace": NAMESPACE, "ScalableDimension": dimension, **request}


def described(request: Document) -> str:
    """Return how AWS's messages name the resource of a request."""
    return (
        f"service namespace: {request['ServiceNamespace']}, resource ID: {request['ResourceId']}, "
        f"scalable dimension: {request['ScalableDimension']}"
    )


def absent(what: str, request: Document) -> ApiError:
    """Return the error for something that a resource does not have."""
    return ApiError("ObjectNotFoundException", f"No {what} for {described(request)}")


def check_target(target: Document) -> None:
    """Raise ApiError for a scalable target that cannot be registered."""
    if target["ServiceNamespace"] != NAMESPACE or target["ScalableDimension"] not in DIMENSIONS:
        raise refused(f"the local account only scales sagemaker's {' and '.join(DIMENSIONS)}")
    scalable = Scalable.parse(target["ResourceId"])
    if target["ScalableDimension"] != scalable.dimension:
        raise refused(f"ScalableDimension of {target['ResourceId']} is {scalable.dimension}")
    for name in ("MinCapacity", "MaxCapacity"):
        if name not in target:
            raise refused(f"{name} is missing: it is required to register a scalable target")
    check_bounds(target["MinCapacity"], target["MaxCapacity"], scalable)


def check_bounds(minimum: int, maximum: int, scalable: Scalable) -> None:
    """Raise ApiError unless a resource can have these bounds."""
    if not scalable.least <= minimum <= maximum:
        raise refused(
            f"MinCapacity is {minimum} and MaxCapacity {maximum}: {scalable.least} <= minimum <= maximum",
        )


def check_policy(policy: Document) -> None:
    """Raise ApiError for a scaling policy that the local account cannot apply."""
    kind = policy["PolicyType"]
    if kind == "TargetTrackingScaling":
        if _TRACKING not in policy:
            raise refused(f"{_TRACKING} is missing: it is required with PolicyType {kind}")
        _check_tracking(policy[_TRACKING], Scalable.parse(policy["ResourceId"]))
    else:
        _check_steps(policy.get(_STEPS) or {})


def _check_tracking(settings: Document, scalable: Scalable) -> None:
    metric = (settings.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    if metric not in scalable.metrics:
        raise refused(f"the metric is {metric!r}: supported are {', '.join(scalable.metrics)}")
    if float(settings["TargetValue"]) <= 0:
        raise refused(f"TargetValue is {settings['TargetValue']}: it must be above 0")


def _check_steps(settings: Document) -> None:
    if "AdjustmentType" not in settings:
        raise refused("AdjustmentType is missing: use ChangeInCapacity")
    if not settings.get("StepAdjustments"):
        raise refused("StepAdjustments is empty: give at least one")
