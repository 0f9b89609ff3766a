"""Cost anomaly monitors in the emulator: kept and listed, and never going off, since nothing costs anything here."""

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
"""The attribute of each kind that is its ARN, which is also what `Ref` gives."""
_kept: dict[str, dict[str, Properties]] = {kind: {} for kind in _KINDS}


def get_state() -> Properties:
    """What the emulator's snapshots keep."""
    return {kind: dict(each) for kind, each in _kept.items()}


def load_persisted_state(state: Properties) -> None:
    """Takes a snapshot back."""
    for kind, each in state.items():
        _kept[kind].update(each)


async def _handle(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
) -> tuple[int, dict[str, str], bytes]:
    """GetAnomalyMonitors and GetAnomalySubscriptions; every other operation is refused by its name."""
    del method, path, query, body
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    kind = operation.removeprefix("Get").removesuffix("s")
    if kind not in _KINDS:
        return _answer(400, {"__type": "InvalidAction", "message": f"the local account has no {operation}"})
    return _answer(200, {f"{kind}s": list(_kept[kind].values())})


def _answer(status: int, content: Properties) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()


def _record(properties: Properties) -> Properties:
    """What the API tells of a template's properties: expressions are text in a template."""
    return {
        name: json.loads(value) if name in ("MonitorSpecification", "ThresholdExpression") else value
        for name, value in properties.items()
        if name != "ResourceTags"
    }


def _creating(kind: str) -> Callable[[str, Properties, str], tuple[str, Properties]]:
    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:
        del logical_id, stack
        arn = f"arn:aws:ce::{get_account_id()}:{kind.lower()}/{uuid.uuid4()}"
        _kept[kind][arn] = {**_record(properties), _KINDS[kind]: arn}
        return arn, {_KINDS[kind]: arn}

    return create


def _updating(kind: str) -> Callable[[str, Properties, Properties, str], tuple[str, Properties]]:
    def update(physical_id: str, old: Properties, new: Properties, stack: str) -> tuple[str, Properties]:
        del old, stack
        _kept[kind][physical_id] = {**_record(new), _KINDS[kind]: physical_id}
        return physical_id, {_KINDS[kind]: physical_id}

    return update


def _deleting(kind: str) -> Callable[[str, Properties], None]:
    def delete(physical_id: str, properties: Properties) -> None:
        del properties
        _kept[kind].pop(physical_id, None)

    return delete


def register() -> None:
    """Adds the service and its CloudFormation types to MiniStack's tables."""
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
