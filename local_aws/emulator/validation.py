"""Requests to MiniStack's services, held against botocore's service models before MiniStack sees them.

Operations that MiniStack lacks, and members that a service does not have, are refused by name, as is what the
declarations in `local_aws.api` refuse.
"""

import re
import zlib
from collections import deque
from collections.abc import Mapping
from functools import cache
from urllib.parse import parse_qsl

from local_aws.api.declaration import Service
from local_aws.api.services import EMULATED, SERVICES
from local_aws.authentication.errors import AuthenticationError, Protocol, render
from local_aws.authentication.middleware import App, Receive, Scope, Send, replay
from local_aws.emulator.query_protocol import nested
from local_aws.hosting.errors import ApiError
from local_aws.hosting.service_model import ServiceModel, json_document

_SIGNED_FOR = re.compile(r"Credential=[^/,\s]+/\d{8}/[^/]+/([^/]+)/aws4_request")
_NAMES = {"monitoring": "cloudwatch", "states": "stepfunctions"}
"""botocore's names of services that sign under another one."""
_DECLARED: Mapping[str, Service] = {service.name: service for service in SERVICES}
_OPERATIONS = {**EMULATED, "ce": _DECLARED["ce"].operations}
_QUERY = ("cloudformation", "iam", "sns", "sts")
_CODES = {
    "cloudwatch": "ValidationError", "ecs": "InvalidParameterException", "ecr": "InvalidParameterException",
    "ec2": "InvalidParameterValue", "codebuild": "InvalidInputException", "logs": "InvalidParameterException",
    "secretsmanager": "InvalidParameterException", **dict.fromkeys(_QUERY, "ValidationError"),
}  # fmt: skip
"""Codes of the services' errors for input that breaks a rule, where they are not ValidationException."""
_MAX_BODY = 64 * 2**20
_GZIP = zlib.MAX_WBITS | 16
"""zlib's notation for a stream with gzip's header."""


class Validation:
    """Middleware that passes on only requests that their service's model, and the local account, allow."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        headers = _headers(scope)
        service = _service(headers) if scope["type"] == "http" else None
        if service not in _OPERATIONS or not _is_validated(headers, service):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        try:
            _check(service, headers, scope, body)
        except ApiError as error:
            await _refuse(error, service, headers, send)
            return
        await self._app(scope, replay(deque([body]), receive), send)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}


def _service(headers: Mapping[str, str]) -> str | None:
    """Return botocore's name of the service that a request is signed for."""
    match = _SIGNED_FOR.search(headers.get("authorization", ""))
    return None if match is None else _NAMES.get(match[1], match[1])


def _is_validated(headers: Mapping[str, str], service: str) -> bool:
    """Return whether a request is in a protocol that is read here; CBOR is MiniStack's own business."""
    return "x-amz-target" in headers or _protocol(headers, service) in (Protocol.QUERY, Protocol.EC2)


def _protocol(headers: Mapping[str, str], service: str) -> Protocol:
    if "x-amz-target" in headers:
        return Protocol.JSON
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return Protocol.EC2 if service == "ec2" else Protocol.QUERY
    return Protocol.CBOR


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return b"".join(chunks)


@cache
def _model(service: str) -> ServiceModel:
    code = _CODES.get(service, "ValidationException")
    return ServiceModel(service, _DECLARED.get(service), code, _OPERATIONS[service])


def _check(service: str, headers: Mapping[str, str], scope: Scope, body: bytes) -> None:
    """Raise ApiError for a request that is refused."""
    model, content = _model(service), _decoded(headers, body)
    if "x-amz-target" in headers:
        operation = headers["x-amz-target"].rpartition(".")[2]
        _check_operation(service, operation, "UnknownOperationException")
        model.check_input(operation, json_document(content))
        return
    parameters = dict(parse_qsl(content.decode(errors="replace"), keep_blank_values=True))
    parameters |= dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
    operation = parameters.get("Action", "")
    _check_operation(service, operation, "InvalidAction")
    request = nested(model, operation, parameters, ec2=service == "ec2")
    model.check_input(operation, request, text=True, complete=True)


def _check_operation(service: str, operation: str, code: str) -> None:
    if operation not in _OPERATIONS[service]:
        raise ApiError(code, f"the local account does not support the operation {operation[:100]!r} of {service}")


def _decoded(headers: Mapping[str, str], body: bytes) -> bytes:
    if headers.get("content-encoding") != "gzip":
        return body
    try:
        content = zlib.decompressobj(_GZIP).decompress(body, _MAX_BODY + 1)
    except zlib.error as error:
        raise ApiError("SerializationException", f"the body is not compressed by gzip: {error}") from error
    if len(content) > _MAX_BODY:
        raise ApiError("RequestEntityTooLarge", f"the body is over {_MAX_BODY} bytes", 413)
    return content


async def _refuse(error: ApiError, service: str, headers: Mapping[str, str], send: Send) -> None:
    response = render(AuthenticationError(error.status, error.code, str(error)), _protocol(headers, service))
    names = {**response.headers, "content-length": str(len(response.body))}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in names.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    await send({"type": "http.response.body", "body": response.body})
