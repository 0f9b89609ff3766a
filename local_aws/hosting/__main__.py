"""Hosting process: SageMaker's control plane and runtime on one loopback port."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlparse

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from containers.serving.connections import BoundedHttpProtocol
from containers.serving.contract import MAX_BODY_BYTES
from local_aws.account import ACCOUNT_ID, REGION, STATE_VARIABLE, Engine, default_cache, engine
from local_aws.authentication.credentials import CredentialStore
from local_aws.authentication.middleware import Authentication
from local_aws.hosting.background import restarted
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.logs import LogShipper, log_group
from local_aws.hosting.metrics import Metrics, Subject
from local_aws.hosting.multi_model import ModelNotLoadableError
from local_aws.hosting.replica import Replica
from local_aws.hosting.request_ids import RequestIds
from local_aws.hosting.scaling import ScalingService
from local_aws.hosting.shadow import Mirror
from local_aws.podman.state import HOSTING, remove_containers

_HOST = "127.0.0.1"
_COMPONENT_HEADER = "x-amzn-sagemaker-inference-component"
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
    started: float


class Runtime:
    """InvokeEndpoint on the fleets of a control plane."""

    def __init__(self, control: ControlPlane, metrics: Metrics) -> None:
        self._control, self._metrics = control, metrics
        self._mirror = Mirror(metrics)

    async def invoke(self, request: Request) -> Response:
        """Handle POST /endpoints/{name}/invocations."""
        started = time.perf_counter()
        try:
            return await self._invoke(request, request.path_params["name"], started)
        except ApiError as error:
            return runtime_error(error)

    async def _invoke(self, request: Request, name: str, started: float) -> Response:
        self._endpoint(name)
        asked = await _read(request, name, started)
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
        passed = {"x-Amzn-Invoked-Production-Variant": variant.name}
        if attributes := response.headers.get(_ATTRIBUTES_HEADER):
            passed["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        return Response(content, headers=passed, media_type=response.headers.get("content-type"))

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

    def _endpoint(self, name: str) -> dict[str, object]:
        try:
            endpoint = self._control.endpoint(name)
        except ApiError:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.") from None
        if name not in self._control.fleets:
            raise ApiError("ValidationError", f"Endpoint {name} is {endpoint['EndpointStatus']}, not InService.")
        return endpoint

    def _route(self, asked: _Invocation, endpoint: dict[str, object]) -> tuple[VariantFleet, Subject]:
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

    def _variant(self, name: str, endpoint: dict[str, object], wanted: str | None) -> VariantFleet:
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


async def _read(request: Request, endpoint: str, started: float) -> _Invocation:
    """Return what a request asks for; raises ApiError for a body over SageMaker's limit."""
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise ApiError(
            "ValidationError",
            "1 validation error detected: Value at 'body' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_BODY_BYTES}",
        )
    return _Invocation(
        endpoint=endpoint,
        body=body,
        headers={key: request.headers[key] for key in _FORWARDED if key in request.headers},
        target_variant=request.headers.get("x-amzn-sagemaker-target-variant"),
        target_model=request.headers.get("x-amzn-sagemaker-target-model"),
        component=request.headers.get(_COMPONENT_HEADER),
        started=started,
    )


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


def runtime_error(error: ApiError) -> Response:
    """Return an error in the form of sagemaker-runtime's REST-JSON protocol."""
    return JSONResponse(
        {"Message": str(error), "message": str(error), **error.members},
        error.status,
        {"x-amzn-ErrorType": error.code},
    )


def create_app(state: Path) -> Starlette:
    """Return the application for one state folder."""
    control = ControlPlane(state)
    metrics = Metrics(control)
    runtime = Runtime(control, metrics)
    scaling = ScalingService(state, control, metrics)
    logs = LogShipper(state / "logs")

    async def api(request: Request) -> Response:
        service, _, operation = request.headers.get("x-amz-target", ".").rpartition(".")
        handle = scaling.handle if service == "AnyScaleFrontendService" else control.handle
        try:
            return JSONResponse(
                handle(operation, json.loads(await request.body() or b"{}")), media_type="application/x-amz-json-1.1"
            )
        except ApiError as error:
            return JSONResponse(
                {"__type": error.code, "message": str(error)}, error.status, media_type="application/x-amz-json-1.1"
            )
        except KeyError as error:
            return JSONResponse({"__type": "ValidationException", "message": f"{error.args[0]} is missing"}, 400)

    async def health(_request: Request) -> Response:
        return JSONResponse({})

    async def publish(_request: Request) -> Response:
        await metrics.publish()
        return JSONResponse({})

    async def status(_request: Request) -> Response:
        return JSONResponse(control.status())

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        logs.skip_old()
        control.restore()
        scaling.restore()
        loops = (metrics.publish_forever, scaling.run, logs.ship_forever)
        tasks = [asyncio.create_task(restarted(loop)) for loop in loops]
        yield
        for task in tasks:
            task.cancel()
        await control.close()

    return Starlette(
        routes=[
            Route("/", api, methods=["POST"]),
            Route("/endpoints/{name}/invocations", runtime.invoke, methods=["POST"]),
            Route("/_local/health", health),
            Route("/_local/status", status),
            Route("/_local/publish", publish, methods=["POST"]),
        ],
        lifespan=lifespan,
    )


def application(state: Path, address: str) -> RequestIds:
    """Return what serves one state folder at `HOST:PORT`: signed requests in, a request ID on every response."""
    return RequestIds(Authentication(create_app(state), CredentialStore(state), address))


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    port = urlparse(os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]).port
    assert port is not None
    state = Path(os.environ[STATE_VARIABLE])
    if engine() is Engine.PODMAN:
        # An earlier hosting process that was killed may have left its replicas' containers behind.
        remove_containers(default_cache(), state, HOSTING)
    app = application(state, f"{_HOST}:{port}")
    uvicorn.run(
        app, host=_HOST, port=port, log_level="warning", access_log=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=5, http=BoundedHttpProtocol,
    )  # fmt: skip


if __name__ == "__main__":
    main()
