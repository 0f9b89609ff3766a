"""SageMaker in the emulator: API calls go to the hosting process, and CloudFormation waits for endpoints."""

import time
from typing import Any

from local_aws.emulator import components
from local_aws.emulator.failed_creations import deleted_unless_created
from local_aws.emulator.hosting import HostingError, Properties, ask, call, forward
from local_aws.emulator.ministack.application import register_service
from local_aws.emulator.ministack.resources import (
    Create,
    Delete,
    Provisioned,
    Update,
    delete_resource,
    physical_name,
    register_resource,
)
from local_aws.emulator.ministack.stacks import run_on_worker_thread
from local_aws.emulator.tags import update_tags

_POLL_SECONDS = 0.5
_WAIT_SECONDS = 1800
_INTEGERS = frozenset(
    {
        "InitialInstanceCount",
        "ModelDataDownloadTimeoutInSeconds",
        "ContainerStartupHealthCheckTimeoutInSeconds",
        "VolumeSizeInGB",
        "InitialSamplingPercentage",
        "MinInstanceCount",
        "MaxInstanceCount",
        "WaitIntervalInSeconds",
        "TerminationWaitInSeconds",
        "MaximumExecutionTimeoutInSeconds",
    }
)
_REPLACING = {
    "Model": (
        "ModelName", "PrimaryContainer", "Containers", "ExecutionRoleArn", "EnableNetworkIsolation", "VpcConfig",
        "InferenceExecutionConfig",
    ),
    "EndpointConfig": (
        "EndpointConfigName", "ProductionVariants", "ShadowProductionVariants", "KmsKeyId", "DataCaptureConfig",
        "ExecutionRoleArn", "EnableNetworkIsolation", "VpcConfig", "AsyncInferenceConfig", "ExplainerConfig",
        "MetricsConfig",
    ),
    "Endpoint": ("EndpointName",),
}  # fmt: skip
"""Properties of each kind whose change replaces the resource: of models and configurations all but their tags."""
_SIZES = ("CanarySize", "LinearStepSize", "MaximumBatchSize", "RollbackMaximumBatchSize")


def _call(operation: str, request: Properties) -> Properties:
    return call(f"SageMaker.{operation}", request)


def _plain(value: Any, name: str = "") -> Any:
    """Convert CloudFormation's text to numbers, and its ARNs to names."""
    if isinstance(value, dict):
        size = {"Value": int(value["Value"])} if name in _SIZES else {}
        return {key: _plain(member, key) for key, member in value.items()} | size
    if isinstance(value, list):
        return [_plain(member, name) for member in value]
    if name in _INTEGERS:
        return int(value)
    if name in ("ModelName", "EndpointConfigName", "EndpointName") and isinstance(value, str):
        return value.rpartition("/")[2]
    return value


def stack_tags(given: list[Properties] | None, logical_id: str, stack: str) -> list[Properties]:
    """Return a resource's tags plus those that CloudFormation adds."""
    own = {"aws:cloudformation:stack-name": stack, "aws:cloudformation:logical-id": logical_id}
    return [*(given or []), *({"Key": key, "Value": value} for key, value in own.items())]


def made_by_a_stack(arn: str) -> bool:
    """Return whether CloudFormation created the resource with this ARN; raise HostingError."""
    tags: list[Properties] = ask("SageMaker.ListTags", {"ResourceArn": arn})["Tags"]
    return any(tag["Key"] == "aws:cloudformation:stack-name" for tag in tags)


def delete(kind: str, arn: str) -> None:
    """Delete a resource as CloudFormation does, and wait until it is gone; raise HostingError."""
    delete_resource(f"AWS::SageMaker::{kind}", arn)


def _create(kind: str) -> Create:
    def create(logical_id: str, properties: Properties, stack: str) -> Provisioned:
        name_key = f"{kind}Name"
        request = _plain(properties)
        request.setdefault(name_key, physical_name(stack, logical_id, max_length=63))
        request["Tags"] = stack_tags(request.get("Tags"), logical_id, stack)
        arn = _call(f"Create{kind}", request)[f"{kind}Arn"]
        if kind == "Endpoint":
            deleted_unless_created(lambda: _wait(request[name_key], "created"), lambda: _delete(kind)(arn, {}))
        return arn, {name_key: request[name_key], f"{kind}Arn": arn, "Id": arn}

    return create


def _update_tagged(kind: str) -> Update:
    def update(physical_id: str, old: Properties, new: Properties, _stack: str) -> Provisioned:
        update_tags(physical_id, old, new)
        name = physical_id.rpartition("/")[2]
        return physical_id, {f"{kind}Name": name, f"{kind}Arn": physical_id, "Id": physical_id}

    return update


def _delete(kind: str) -> Delete:
    def delete(physical_id: str, _properties: Properties) -> None:
        name = physical_id.rpartition("/")[2]
        try:
            if kind == "Endpoint":
                _settle(name)
            _call(f"Delete{kind}", {f"{kind}Name": name})
            while kind == "Endpoint":
                _call("DescribeEndpoint", {"EndpointName": name})
                time.sleep(_POLL_SECONDS)
        except HostingError as error:
            if "Could not find" not in str(error):
                raise

    return delete


def _update_endpoint(physical_id: str, old: Properties, new: Properties, _stack: str) -> Provisioned:
    update_tags(physical_id, old, new)
    request = _plain(new)
    name = physical_id.rpartition("/")[2]
    updated = physical_id, {"EndpointName": name, "EndpointArn": physical_id, "Id": physical_id}
    # When CloudFormation rolls a stack back, it asks for the configuration that a rolled-back endpoint already has.
    now = _settle(name)
    if (now["EndpointStatus"], now["EndpointConfigName"]) == ("InService", request["EndpointConfigName"]):
        return updated
    update: Properties = {
        "EndpointName": name,
        "EndpointConfigName": request["EndpointConfigName"],
        "RetainAllVariantProperties": str(new.get("RetainAllVariantProperties", "")).lower() == "true",
    }
    update |= {
        name: request[name] for name in ("DeploymentConfig", "ExcludeRetainedVariantProperties") if name in request
    }
    _call("UpdateEndpoint", update)
    _wait(name, "updated", update["EndpointConfigName"])
    return updated


def restore_endpoint(physical_id: str, properties: Properties) -> None:
    """Make an endpoint serve what these properties say, whatever an update changed; raise HostingError."""
    _update_endpoint(physical_id, properties, properties, "")


def _settle(name: str) -> dict[str, Any]:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        endpoint = ask("SageMaker.DescribeEndpoint", {"EndpointName": name})
        if endpoint["EndpointStatus"] not in ("Creating", "Updating", "SystemUpdating", "RollingBack"):
            return endpoint
        if time.monotonic() > deadline:
            raise HostingError(f"endpoint {name} is still {endpoint['EndpointStatus']} after {_WAIT_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def _wait(name: str, done: str, config: str | None = None) -> None:
    endpoint = _settle(name)
    if endpoint["EndpointStatus"] == "InService" and config not in (None, endpoint["EndpointConfigName"]):
        # An update that ended without an outcome, for example because the hosting process died, did not happen.
        endpoint.setdefault("FailureReason", f"it serves {endpoint['EndpointConfigName']} instead of {config}")
    if endpoint["EndpointStatus"] != "InService" or "FailureReason" in endpoint:
        raise HostingError(f"endpoint {name} could not be {done}: {endpoint.get('FailureReason', 'no reason given')}")


def register() -> None:
    """Add the service and the CloudFormation types."""
    register_service("sagemaker", forward, target_prefixes=["SageMaker."], host_patterns=[r"sagemaker\."])
    components.register()
    # Replicas load their model from this emulator while it waits for them, so it must not block.
    run_on_worker_thread(("AWS::SageMaker::Endpoint", components.TYPE))
    for kind, replacing in _REPLACING.items():
        register_resource(
            f"AWS::SageMaker::{kind}",
            create=_create(kind),
            update=_update_endpoint if kind == "Endpoint" else _update_tagged(kind),
            delete=_delete(kind),
            replacing=replacing,
        )
