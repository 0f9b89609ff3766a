"""Cost anomaly monitors in the emulator: stored and listed, but they never fire, since nothing costs money here."""

import json
import uuid

from local_aws.emulator.ministack.application import register_service, register_state
from local_aws.emulator.ministack.resources import Create, Delete, Properties, Provisioned, Update, register_resource
from local_aws.emulator.ministack.responses import Response, account_id

_PREFIX = "AWSInsightsIndexService"
_KINDS = {"AnomalyMonitor": "MonitorArn", "AnomalySubscription": "SubscriptionArn"}
"""Attribute of each kind that holds its ARN, which is also what `Ref` returns."""
_REPLACING = {
    "AnomalyMonitor": ("MonitorType", "MonitorSpecification", "MonitorDimension"),
    "AnomalySubscription": (),
}
"""Properties of each kind whose change replaces the resource."""
_kept: dict[str, dict[str, Properties]] = {kind: {} for kind in _KINDS}


def _state() -> Properties:
    return {kind: dict(each) for kind, each in _kept.items()}


def _load(state: Properties) -> None:
    for kind, each in state.items():
        _kept[kind].update(each)


async def _handle(
    _method: str,
    _path: str,
    headers: dict[str, str],
    body: bytes,
    _query: dict[str, list[str]],
) -> Response:
    """Handle GetAnomalyMonitors and GetAnomalySubscriptions; refuse every other operation by name."""
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    kind = operation.removeprefix("Get").removesuffix("s")
    if kind not in _KINDS:
        message = f"the local account does not support {operation}"
        return _response(400, {"__type": "InvalidAction", "message": message})
    request = json.loads(body or b"{}")
    arns, monitor = request.get(f"{_KINDS[kind]}List"), request.get("MonitorArn")
    found = [
        record
        for arn, record in _kept[kind].items()
        if (not arns or arn in arns) and (not monitor or monitor in record.get("MonitorArnList", ()))
    ]
    return _response(200, {f"{kind}s": found})


def _response(status: int, content: Properties) -> Response:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()


def _record(properties: Properties) -> Properties:
    """Return the API's form of a template's properties, where expressions are text."""
    return {
        name: json.loads(value) if name in ("MonitorSpecification", "ThresholdExpression") else value
        for name, value in properties.items()
        if name != "ResourceTags"
    }


def _creating(kind: str) -> Create:
    def create(_logical_id: str, properties: Properties, _stack: str) -> Provisioned:
        arn = f"arn:aws:ce::{account_id()}:{kind.lower()}/{uuid.uuid4()}"
        _kept[kind][arn] = {**_record(properties), _KINDS[kind]: arn}
        return arn, {_KINDS[kind]: arn}

    return create


def _updating(kind: str) -> Update:
    def update(physical_id: str, _old: Properties, new: Properties, _stack: str) -> Provisioned:
        _kept[kind][physical_id] = {**_record(new), _KINDS[kind]: physical_id}
        return physical_id, {_KINDS[kind]: physical_id}

    return update


def _deleting(kind: str) -> Delete:
    def delete(physical_id: str, _properties: Properties) -> None:
        _kept[kind].pop(physical_id, None)

    return delete


def register() -> None:
    """Add the service, its state and its CloudFormation types."""
    register_service("ce", _handle, target_prefixes=[_PREFIX], host_patterns=[r"ce\."], credential_scope="ce")
    register_state("anomalies", save=_state, load=_load)
    for kind in _KINDS:
        register_resource(
            f"AWS::CE::{kind}",
            create=_creating(kind),
            update=_updating(kind),
            delete=_deleting(kind),
            replacing=_REPLACING[kind],
        )
