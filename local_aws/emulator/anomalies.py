"""Cost anomaly monitors in the emulator: stored and listed, but they never fire, since nothing costs money here."""

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

import ministack.app as ministack_app
from ministack.core import router
from ministack.core.responses import get_account_id
from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
_PREFIX = "AWSInsightsIndexService"
_KINDS = {"AnomalyMonitor": "MonitorArn", "AnomalySubscription": "SubscriptionArn"}
"""Attribute of each kind that holds its ARN, which is also what `Ref` returns."""
_kept: dict[str, dict[str, Properties]] = {kind: {} for kind in _KINDS}


def get_state() -> Properties:
    """Return the state that the emulator's snapshots keep."""
    return {kind: dict(each) for kind, each in _kept.items()}


def load_persisted_state(state: Properties) -> None:
    """Restore a snapshot."""
    for kind, each in state.items():
        _kept[kind].update(each)


async def _handle(
    method: str,  # noqa: ARG001 - MiniStack passes it
    path: str,  # noqa: ARG001 - MiniStack passes it
    headers: dict[str, str],
    body: bytes,  # noqa: ARG001 - MiniStack passes it
    query: dict[str, list[str]],  # noqa: ARG001 - MiniStack passes it
) -> tuple[int, dict[str, str], bytes]:
    """Handle GetAnomalyMonitors and GetAnomalySubscriptions; refuse every other operation by name."""
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    kind = operation.removeprefix("Get").removesuffix("s")
    if kind not in _KINDS:
        message = f"the local account does not support {operation}"
        return _response(400, {"__type": "InvalidAction", "message": message})
    return _response(200, {f"{kind}s": list(_kept[kind].values())})


def _response(status: int, content: Properties) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()


def _record(properties: Properties) -> Properties:
    """Return the API's form of a template's properties, where expressions are text."""
    return {
        name: json.loads(value) if name in ("MonitorSpecification", "ThresholdExpression") else value
        for name, value in properties.items()
        if name != "ResourceTags"
    }


def _creating(kind: str) -> Callable[[str, Properties, str], tuple[str, Properties]]:
    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes them
        arn = f"arn:aws:ce::{get_account_id()}:{kind.lower()}/{uuid.uuid4()}"
        _kept[kind][arn] = {**_record(properties), _KINDS[kind]: arn}
        return arn, {_KINDS[kind]: arn}

    return create


def _updating(kind: str) -> Callable[[str, Properties, Properties, str], tuple[str, Properties]]:
    def update(physical_id: str, old: Properties, new: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes them
        _kept[kind][physical_id] = {**_record(new), _KINDS[kind]: physical_id}
        return physical_id, {_KINDS[kind]: physical_id}

    return update


def _deleting(kind: str) -> Callable[[str, Properties], None]:
    def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes them
        _kept[kind].pop(physical_id, None)

    return delete


def register() -> None:
    """Add the service and its CloudFormation types to MiniStack's tables."""
    ministack_app.SERVICE_HANDLERS["ce"] = _handle
    router.SERVICE_PATTERNS["ce"] = {
        "target_prefixes": [_PREFIX],
        "host_patterns": [r"ce\."],
        "credential_scope": "ce",
    }
    ministack_app._state_map["anomalies"] = "anomalies"
    ministack_app._loaded_modules["anomalies"] = sys.modules[__name__]
    for kind in _KINDS:
        provisioners._RESOURCE_HANDLERS[f"AWS::CE::{kind}"] = {
            "create": _creating(kind),
            "update": _updating(kind),
            "delete": _deleting(kind),
        }
    provisioners._REPLACING_PROPERTIES["AWS::CE::AnomalyMonitor"] = (
        "MonitorType", "MonitorSpecification", "MonitorDimension",
    )  # fmt: skip
