"""What an endpoint configuration says, and what SageMaker refuses of it."""

from collections.abc import Callable
from typing import Any

from local_aws.hosting.errors import ApiError

Document = dict[str, Any]


def variants(config: Document) -> list[Document]:
    """The production variants, and the shadow variants after them."""
    return [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]


def hosts_components(config: Document) -> bool:
    """Whether it leaves its models to inference components."""
    return any("ModelName" not in variant for variant in config["ProductionVariants"])


def instance_types(config: Document) -> dict[str, str]:
    """The instance type of each production variant."""
    return {variant["VariantName"]: variant.get("InstanceType", "") for variant in config["ProductionVariants"]}


def check(config: Document, get: Callable[[str, str], Document]) -> None:
    """Raises ApiError for what CreateEndpointConfig refuses. get: gives a record by kind and name, or raises."""
    if shadows := config.get("ShadowProductionVariants"):
        counts = len(config["ProductionVariants"]), len(shadows)
        if counts != (1, 1) or any("ModelName" not in variant for variant in variants(config)):
            raise ApiError(
                "ValidationException",
                f"{counts[1]} ShadowProductionVariants with {counts[0]} ProductionVariants: there can be one beside "
                "one, each with a model",
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
        raise ApiError(
            "ValidationException", "ExecutionRoleArn is missing: it is needed where a variant names no model"
        )
