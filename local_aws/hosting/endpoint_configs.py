"""Contents of an endpoint configuration, and SageMaker's rules for it."""

from collections.abc import Callable
from typing import Any

from local_aws.hosting.errors import ApiError

Document = dict[str, Any]


def variants(config: Document) -> list[Document]:
    """Return the production variants, followed by the shadow variants."""
    return [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]


def hosts_components(config: Document) -> bool:
    """Return whether the endpoint leaves its models to inference components."""
    return any("ModelName" not in variant for variant in config["ProductionVariants"])


def instance_types(config: Document) -> dict[str, str]:
    """Return the instance type of each production variant."""
    return {variant["VariantName"]: variant.get("InstanceType", "") for variant in config["ProductionVariants"]}


def check(config: Document, get: Callable[[str, str], Document]) -> None:
    """Raise ApiError for anything CreateEndpointConfig refuses. get: returns a record by kind and name, or raises."""
    if shadows := config.get("ShadowProductionVariants"):
        counts = len(config["ProductionVariants"]), len(shadows)
        if counts != (1, 1) or any("ModelName" not in variant for variant in variants(config)):
            raise ApiError(
                "ValidationException",
                f"{counts[1]} ShadowProductionVariants with {counts[0]} ProductionVariants: use exactly one of each, "
                "both with a model",
            )
    for variant in variants(config):
        if "ModelName" in variant:
            get("Model", variant["ModelName"])
            if "ManagedInstanceScaling" in variant:
                raise ApiError(
                    "ValidationException",
                    "ManagedInstanceScaling is only supported for inference component endpoints.",
                )
    if hosts_components(config) and "ExecutionRoleArn" not in config:
        raise ApiError("ValidationException", "ExecutionRoleArn is missing: it is required if a variant names no model")
