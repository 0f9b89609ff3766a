"""Inference components in CloudFormation: created, updated and deleted in the hosting process, and waited for."""

import time
from typing import Any

from local_aws.emulator.failed_creations import deleted_unless_created
from local_aws.emulator.hosting import HostingError, Properties, ask, call
from local_aws.emulator.ministack.resources import Provisioned, physical_name, register_resource
from local_aws.emulator.tags import update_tags

KIND = "InferenceComponent"
TYPE = f"AWS::SageMaker::{KIND}"
_POLL_SECONDS = 0.5
_WAIT_SECONDS = 1800
_INTEGERS = frozenset(
    {
        "CopyCount", "MinMemoryRequiredInMb", "MaxMemoryRequiredInMb", "ModelDataDownloadTimeoutInSeconds",
        "ContainerStartupHealthCheckTimeoutInSeconds", "Value", "WaitIntervalInSeconds",
        "MaximumExecutionTimeoutInSeconds",
    }
)  # fmt: skip
_NUMBERS = frozenset({"NumberOfCpuCoresRequired", "NumberOfAcceleratorDevicesRequired"})
_NAMES = frozenset({"ModelName", "EndpointName", "InferenceComponentName"})


def _call(operation: str, request: Properties) -> Properties:
    return call(f"SageMaker.{operation}", request)


def _plain(value: Any, name: str = "") -> Any:
    """Convert CloudFormation's text to numbers, and its ARNs to names."""
    if name == "Tags":
        return value
    if isinstance(value, dict):
        return {key: _plain(member, key) for key, member in value.items() if key != "EndpointArn"}
    if isinstance(value, list):
        return [_plain(member, name) for member in value]
    if name in _INTEGERS:
        return int(value)
    if name in _NUMBERS:
        return float(value)
    return value.rpartition("/")[2] if name in _NAMES else value


def _create(logical_id: str, properties: Properties, stack: str) -> Provisioned:
    request = _plain(properties)
    request.setdefault("InferenceComponentName", physical_name(stack, logical_id, max_length=63))
    arn = _call("CreateInferenceComponent", request)["InferenceComponentArn"]
    name = request["InferenceComponentName"]
    return arn, deleted_unless_created(lambda: _wait(name, "created"), lambda: _delete(arn, {}))


def _update(physical_id: str, old: Properties, new: Properties, _stack: str) -> Provisioned:
    name = physical_id.rpartition("/")[2]
    update_tags(physical_id, old, new)
    before, after = _plain(old), _plain(new)
    _settle(name)
    # Update only what the template changes: the copy count, for example, may have been changed by scaling.
    members = ("Specification", "RuntimeConfig", "DeploymentConfig")
    changes = {member: after[member] for member in members if member in after and after[member] != before.get(member)}
    if changes:
        _call("UpdateInferenceComponent", {"InferenceComponentName": name, **changes})
    return physical_id, _wait(name, "updated", changes.get("Specification"))


def restore(physical_id: str, properties: Properties) -> None:
    """Make a component match these properties, whatever an update changed; raise HostingError."""
    served = _settle(physical_id.rpartition("/")[2])["Specification"]
    specification = _plain(properties)["Specification"]
    if served != specification:
        _update(physical_id, {**properties, "Specification": served}, properties, "")


def _delete(physical_id: str, _properties: Properties) -> None:
    name = physical_id.rpartition("/")[2]
    try:
        _settle(name)
        _call("DeleteInferenceComponent", {"InferenceComponentName": name})
        while True:
            _call("DescribeInferenceComponent", {"InferenceComponentName": name})
            time.sleep(_POLL_SECONDS)
    except HostingError as error:
        if "Could not find" not in str(error):
            raise


def _settle(name: str) -> Properties:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        component = ask("SageMaker.DescribeInferenceComponent", {"InferenceComponentName": name})
        status = component["InferenceComponentStatus"]
        if status not in ("Creating", "Updating"):
            return component
        if time.monotonic() > deadline:
            raise HostingError(f"inference component {name} is still {status} after {_WAIT_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def _wait(name: str, done: str, specification: Properties | None = None) -> Properties:
    component = _settle(name)
    if component["InferenceComponentStatus"] == "InService" and specification not in (None, component["Specification"]):
        # An update that ended without an outcome, for example because the hosting process died, did not happen.
        component.setdefault("FailureReason", "its specification differs from the template's")
    if component["InferenceComponentStatus"] != "InService" or "FailureReason" in component:
        reason = component.get("FailureReason", "no reason given")
        raise HostingError(f"inference component {name} could not be {done}: {reason}")
    return {
        "Id": component["InferenceComponentArn"],
        "InferenceComponentArn": component["InferenceComponentArn"],
        "InferenceComponentName": name,
        "InferenceComponentStatus": component["InferenceComponentStatus"],
    }


def register() -> None:
    """Add the CloudFormation type."""
    replacing = ("InferenceComponentName", "EndpointName", "VariantName")
    register_resource(TYPE, create=_create, update=_update, delete=_delete, replacing=replacing)
