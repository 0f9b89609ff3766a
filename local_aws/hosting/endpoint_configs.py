"""Contents of an endpoint configuration, and SageMaker's rules for it."""

from collections.abc import Callable
from typing import Any

from local_aws.hosting.errors import refused
from local_aws.hosting.s3_urls import LocationError, S3Location

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
            raise refused(
                f"{counts[1]} ShadowProductionVariants with {counts[0]} ProductionVariants: use exactly one of each, "
                "both with a model",
            )
    _check_capture(config)
    names = [variant["VariantName"] for variant in variants(config)]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise refused(f"the variant names {', '.join(sorted(repeated))} are used more than once: make them unique")
    for variant in variants(config):
        _check_variant(variant, get)
    if hosts_components(config) and "ExecutionRoleArn" not in config:
        raise refused("ExecutionRoleArn is missing: it is required if a variant names no model")


def _check_capture(config: Document) -> None:
    if capture := config.get("DataCaptureConfig"):
        try:
            S3Location.parse(capture["DestinationS3Uri"])
        except LocationError as error:
            raise refused(str(error)) from None


def _check_variant(variant: Document, get: Callable[[str, str], Document]) -> None:
    name = variant["VariantName"]
    if "InstanceType" not in variant:
        raise refused(f"InstanceType of variant {name} is missing: it is required without ServerlessConfig")
    if "ModelName" in variant:
        get("Model", variant["ModelName"])
        if "ManagedInstanceScaling" in variant:
            raise refused("ManagedInstanceScaling is only supported for inference component endpoints.")
