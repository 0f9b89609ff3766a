"""SageMaker in the emulator: API calls go to the hosting process, and CloudFormation waits for endpoints."""

import time
from typing import Any

import ministack.app as ministack_app
from ministack.core import router
from ministack.services.cloudformation import provisioners, stacks

from local_aws.emulator import components
from local_aws.emulator.hosting import HostingError, Properties, ask, call, forward

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
    provisioners._RESOURCE_HANDLERS[f"AWS::SageMaker::{kind}"]["delete"](arn, {})


def _create(kind: str) -> Any:
    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:
        name_key = f"{kind}Name"
        request = _plain(properties)
        request.setdefault(name_key, provisioners._physical_name(stack, logical_id, max_len=63))
        request["Tags"] = stack_tags(request.get("Tags"), logical_id, stack)
        arn = _call(f"Create{kind}", request)[f"{kind}Arn"]
        if kind == "Endpoint":
            _wait(request[name_key], "created")
        return arn, {name_key: request[name_key], f"{kind}Arn": arn, "Id": arn}

    return create


def _delete(kind: str) -> Any:
    def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes them
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


def _update_endpoint(physical_id: str, old: Properties, new: Properties, stack: str) -> Any:  # noqa: ARG001 - MiniStack passes them
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
    if "DeploymentConfig" in request:
        update["DeploymentConfig"] = request["DeploymentConfig"]
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


_runs_on_worker_thread = stacks._runs_on_worker_thread


def _waits(resource_type: str) -> bool:
    """Return whether a type's handlers run on a worker thread.

    Replicas load their model from this emulator while it waits for them, so it must not block.
    """
    return resource_type in ("AWS::SageMaker::Endpoint", components.TYPE) or bool(_runs_on_worker_thread(resource_type))


def register() -> None:
    """Add the services and the CloudFormation types to MiniStack's tables."""
    stacks._runs_on_worker_thread = _waits
    ministack_app.SERVICE_HANDLERS["sagemaker"] = forward
    router.SERVICE_PATTERNS["sagemaker"] = {"target_prefixes": ["SageMaker."], "host_patterns": [r"sagemaker\."]}
    components.register()
    for kind in ("Model", "EndpointConfig", "Endpoint"):
        provisioners._RESOURCE_HANDLERS[f"AWS::SageMaker::{kind}"] = {"create": _create(kind), "delete": _delete(kind)}
    provisioners._RESOURCE_HANDLERS["AWS::SageMaker::Endpoint"]["update"] = _update_endpoint
    for kind, replacing in {
        "Model": (
            "ModelName",
            "PrimaryContainer",
            "Containers",
            "ExecutionRoleArn",
            "EnableNetworkIsolation",
            "VpcConfig",
        ),
        "EndpointConfig": (
            "EndpointConfigName",
            "ProductionVariants",
            "ShadowProductionVariants",
            "KmsKeyId",
            "DataCaptureConfig",
            "ExecutionRoleArn",
            "EnableNetworkIsolation",
            "VpcConfig",
        ),
        "Endpoint": ("EndpointName",),
    }.items():
        provisioners._REPLACING_PROPERTIES[f"AWS::SageMaker::{kind}"] = replacing
