"""SageMaker's runtime: InvokeEndpoint on the replicas of a control plane."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from containers.serving.contract import MAX_BODY_BYTES
from local_aws.account import ACCOUNT_ID, REGION
from local_aws.api.sagemaker_runtime import SAGEMAKER_RUNTIME
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.data_capture import DataCapture, Exchange, Payload
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.logs import log_group
from local_aws.hosting.metrics import Metrics, Subject
from local_aws.hosting.multi_model import ModelNotLoadableError
from local_aws.hosting.replica import Replica
from local_aws.hosting.service_model import ServiceModel
from local_aws.hosting.shadow import Mirror

logger = logging.getLogger("runtime")
Document = dict[str, Any]
_MODEL = ServiceModel("sagemaker-runtime", SAGEMAKER_RUNTIME, "ValidationError")
_OPERATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}
"""Operation of each path below an endpoint's."""
_ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"
_FORWARDED = ("content-type", "accept", _ATTRIBUTES_HEADER)
_ATTEMPTS = 3
_COMPONENT_NEEDED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
    "Please include Inference Component Name header or consider using SageMaker models."
)
_COMPONENT_NOT_ALLOWED = (
    "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference "
    "components. Please remove the Inference Component Name header and try again."
)
_NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if "
    "configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)


@dataclass(frozen=True, slots=True)
class _Invocation:
    """One InvokeEndpoint request; `started` is the `time.perf_counter` at its arrival."""

    endpoint: str
    body: bytes
    headers: dict[str, str]
    target_variant: str | None
    target_model: str | None
    component: str | None
    inference_id: str | None
    started: float


class Runtime:
    """InvokeEndpoint on the fleets of a control plane."""

    def __init__(self, control: ControlPlane, metrics: Metrics, capture: DataCapture) -> None:
        self._control, self._metrics, self._capture = control, metrics, capture
        self._mirror = Mirror(metrics)

    async def respond(self, request: Request) -> Response:
        """Respond to POST /endpoints/{name}/{operation}, to every error in the protocol's form."""
        started = time.perf_counter()
        name, path = request.path_params["name"], request.path_params["operation"]
        if path not in _OPERATIONS:
            return unknown(request)
        try:
            members = _members(_OPERATIONS[path], name, request)
            self._endpoint(name)
            if reason := SAGEMAKER_RUNTIME.refused.get(_OPERATIONS[path]):
                raise ApiError("ValidationError", f"{_OPERATIONS[path]} is not supported: {reason}")
            return await self._invoke(request, members, started)
        except ApiError as error:
            return runtime_error(error)
        except Exception as error:
            logger.exception("%s of endpoint %s failed", _OPERATIONS[path], name)
            return runtime_error(ApiError("InternalFailure", f"{type(error).__name__} in the local account", 500))

    async def _invoke(self, request: Request, members: dict[str, str], started: float) -> Response:
        asked = await _read(request, members, started)
        for attempt in range(_ATTEMPTS):
            response = await self._attempt(asked, first=attempt == 0, last=attempt == _ATTEMPTS - 1)
            if response is not None:
                return response
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, asked: _Invocation, *, first: bool, last: bool) -> Response | None:
        """Return the response, or None where another attempt may succeed; raises ApiError."""
        # Looked up for every attempt: they may have been deleted while a model loaded or a replica was down.
        variant, subject = self._route(asked, self._endpoint(asked.endpoint))
        _check_target(asked.endpoint, variant, asked.target_model)
        replica = self._pick(asked, variant)
        if first and asked.component is None and asked.target_model is None:
            self._mirror.reflect(self._control.fleets[asked.endpoint], variant, asked.body, asked.headers)
        fail = partial(self._model_error, asked.endpoint, subject, variant)
        replica.in_flight += 1
        # As on SageMaker, time waiting before the request is sent counts toward neither latency.
        waited = sent = time.perf_counter()
        try:
            async with self._path(replica, subject, asked.target_model) as path:
                sent = time.perf_counter()
                async with replica.client.post(path, data=asked.body, headers=asked.headers) as response:
                    content = await response.read()
        except ModelNotLoadableError as error:
            raise fail(error.status, str(error), 0.0, 0.0) from None
        except aiohttp.ClientConnectorError:
            # The replica died before it accepted the request, so another one may handle it.
            replica.ready = replica.running
            if last:
                raise fail(503, "the container refuses connections", 0.0, sent - asked.started) from None
            await asyncio.sleep(0.05)
            return None
        except TimeoutError:
            latency = time.perf_counter() - sent
            raise fail(504, "the container did not respond in time", latency, waited - asked.started) from None
        except aiohttp.ClientError:
            message = "the container closed the connection without a response"
            raise fail(502, message, time.perf_counter() - sent, waited - asked.started) from None
        finally:
            replica.in_flight -= 1
        if response.status == 404 and asked.target_model is not None and replica.models is not None and not last:
            replica.models.forget(asked.target_model)
            return None
        latency, overhead = time.perf_counter() - sent, waited - asked.started
        if response.status >= 400:
            raise fail(response.status, content.decode(errors="replace"), latency, overhead)
        self._metrics.record(subject, 200, latency * 1e6, overhead * 1e6)
        self._record(asked, variant.name, Payload(content, response.headers.get("content-type", "")))
        return Response(content, headers=_passed_headers(response.headers, variant.name))

    def _record(self, asked: _Invocation, variant: str, response: Payload) -> None:
        """Capture an exchange, if the endpoint captures data."""
        # Looked up anew: it may have been deleted since the request was sent.
        config = (self._control.find("Endpoint", asked.endpoint) or {}).get("DataCaptureConfig")
        if config is None:
            return
        request = Payload(asked.body, asked.headers.get("content-type", ""))
        attributes = asked.headers.get(_ATTRIBUTES_HEADER)
        exchange = Exchange(asked.endpoint, variant, request, response, asked.inference_id, attributes)
        self._capture.record(config, exchange)

    def _pick(self, asked: _Invocation, variant: VariantFleet) -> Replica:
        """Return the replica that handles a request; raises ApiError where none can."""
        replica = variant.pick(asked.target_model)
        if replica is not None:
            return replica
        if asked.component is not None:
            self._metrics.refuse(asked.component)
            raise ApiError("ValidationError", _NO_CAPACITY)
        raise ApiError("ModelNotReadyException", f"no instance of variant {variant.name} is ready; try again", 429)

    @contextlib.asynccontextmanager
    async def _path(self, replica: Replica, subject: Subject, target: str | None) -> AsyncIterator[str]:
        """Yield the path on which a replica handles a request; the model stays loaded until the block ends."""
        if target is None or replica.models is None:
            yield "/invocations"
            return
        async with replica.models.use(target, self._metrics.of(subject)) as model:
            yield f"/models/{model}/invoke"

    def _endpoint(self, name: str) -> Document:
        try:
            endpoint = self._control.endpoint(name)
        except ApiError:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.") from None
        if name not in self._control.fleets:
            raise ApiError("ValidationError", f"Endpoint {name} is {endpoint['EndpointStatus']}, not InService.")
        return endpoint

    def _route(self, asked: _Invocation, endpoint: Document) -> tuple[VariantFleet, Subject]:
        """Return the replicas that may handle a request, and the subject of its metrics."""
        name, wanted, component = asked.endpoint, asked.target_variant, asked.component
        if not self._control.hosts_components(name):
            if component is not None:
                raise ApiError("ValidationError", _COMPONENT_NOT_ALLOWED)
            variant = self._variant(name, endpoint, wanted)
            return variant, (name, variant.name)
        if component is None:
            raise ApiError("ValidationError", _COMPONENT_NEEDED)
        records = {each["InferenceComponentName"]: each for each in self._control.components.on_endpoint(name)}
        if component not in records:
            raise ApiError(
                "ValidationError",
                f"Inference component {component} was not found on endpoint {endpoint['EndpointArn']}; "
                f"it has: {', '.join(records) or 'none'}",
            )
        copies = self._control.components.pick(component)
        if copies is None:
            raise ApiError(
                "ValidationError",
                f"Inference component {component} is {records[component]['InferenceComponentStatus']}, not InService.",
            )
        if wanted not in (None, copies.name):
            raise ApiError("ValidationError", f"Variant {wanted} does not hold inference component {component}")
        return copies, (component,)

    def _variant(self, name: str, endpoint: Document, wanted: str | None) -> VariantFleet:
        try:
            return self._control.pick(name, wanted)
        except KeyError:
            raise ApiError(
                "ValidationError",
                f"Variant {wanted} was not found in endpoint {endpoint['EndpointArn']}; "
                f"it has: {', '.join(self._control.fleets[name].production)}",
            ) from None

    def _model_error(
        self,
        name: str,
        subject: Subject,
        variant: VariantFleet,
        status: int,
        message: str,
        model_seconds: float,
        overhead_seconds: float,
    ) -> ApiError:
        self._metrics.record(subject, status, model_seconds * 1e6, overhead_seconds * 1e6)
        side = "client" if status < 500 else "server"
        group = log_group(subject[0], component=len(subject) == 1)
        return ApiError(
            "ModelError",
            f'Received {side} error ({status}) from {variant.name} with message "{message[:1024]}". '
            f"See `inference local logs {name}`.",
            424,
            OriginalStatusCode=status,
            OriginalMessage=message[:1024],
            LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{group}",
        )


async def _read(request: Request, members: dict[str, str], started: float) -> _Invocation:
    """Return what a request asks for; raises ApiError for a body over SageMaker's limit."""
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise ApiError(
            "ValidationError",
            "1 validation error detected: Value at 'body' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_BODY_BYTES}",
        )
    return _Invocation(
        endpoint=members["EndpointName"],
        body=body,
        headers={key: request.headers[key] for key in _FORWARDED if key in request.headers},
        target_variant=members.get("TargetVariant"),
        target_model=members.get("TargetModel"),
        component=members.get("InferenceComponentName"),
        inference_id=members.get("InferenceId"),
        started=started,
    )


def _members(operation: str, endpoint: str, request: Request) -> dict[str, str]:
    """Return the members that a request has in its path and headers; raise ApiError for those that are refused."""
    given = {"EndpointName": endpoint}
    for name, member in _MODEL.members(operation).items():
        if member.get("location") == "header" and member["locationName"].lower() in request.headers:
            given[name] = request.headers[member["locationName"].lower()]
    members: dict[str, str] = _MODEL.check_input(operation, given, text=True)
    attributes = members.get("CustomAttributes", "")
    if not attributes.isascii() or not attributes.replace(" ", "").isprintable():
        raise ApiError("ValidationError", "CustomAttributes must consist of visible US-ASCII characters")
    return members


def _passed_headers(headers: Mapping[str, str], variant: str) -> dict[str, str]:
    """Return the headers of a response: the container's own, unchanged, and the variant that responded."""
    passed = {"x-Amzn-Invoked-Production-Variant": variant}
    # Not as Starlette's media type, which would complete text/* with a charset.
    for theirs, ours in ((_ATTRIBUTES_HEADER, "X-Amzn-SageMaker-Custom-Attributes"), ("content-type", "content-type")):
        if value := headers.get(theirs):
            passed[ours] = value
    return passed


def _check_target(endpoint: str, variant: VariantFleet, target: str | None) -> None:
    multi_model = variant.spec.model_prefix is not None
    if target is None and multi_model:
        raise ApiError("ValidationError", f"TargetModel is missing: endpoint {endpoint} is a multi-model endpoint")
    if target is not None and not multi_model:
        raise ApiError(
            "ValidationError",
            f"TargetModel is not supported by endpoint {endpoint}: it is not a multi-model endpoint",
        )
    if target is not None and ".." in target.split("/"):
        raise ApiError("ValidationError", f"TargetModel is {target[:100]!r}: it must not contain '..'")


def unknown(request: Request) -> Response:
    """Return the error for a path that the runtime does not have."""
    message = f"the local account does not implement {request.method} {request.url.path[:100]}"
    return runtime_error(ApiError("UnknownOperationException", message, 404))


def runtime_error(error: ApiError) -> Response:
    """Return an error in the form of sagemaker-runtime's REST-JSON protocol."""
    return JSONResponse(
        {"Message": str(error), "message": str(error), **error.members},
        error.status,
        {"x-amzn-ErrorType": error.code},
    )
