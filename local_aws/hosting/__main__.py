"""The hosting process: SageMaker's control plane and runtime on one loopback port."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlparse

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from containers.serving.contract import MAX_BODY_BYTES
from local_aws.account import ACCOUNT_ID, REGION, STATE_VARIABLE
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.metrics import Metrics

_FORWARDED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
_ATTEMPTS = 3


class Runtime:
    """InvokeEndpoint over the fleets of a control plane."""

    def __init__(self, control: ControlPlane, metrics: Metrics) -> None:
        self._control, self._metrics = control, metrics

    async def invoke(self, request: Request) -> Response:
        """POST /endpoints/{name}/invocations."""
        started = time.perf_counter()
        try:
            return await self._invoke(request, request.path_params["name"], started)
        except ApiError as error:
            return runtime_error(error)

    async def _invoke(self, request: Request, name: str, started: float) -> Response:
        endpoint = self._endpoint(name)
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(
                "ValidationError",
                "1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {MAX_BODY_BYTES}",
            )
        if "x-amzn-sagemaker-target-model" in request.headers:
            raise ApiError(
                "ValidationError", f"TargetModel is not supported by endpoint {name}: it is not a multi-model endpoint"
            )
        headers = {key: request.headers[key] for key in _FORWARDED if key in request.headers}
        wanted = request.headers.get("x-amzn-sagemaker-target-variant")
        for attempt in range(_ATTEMPTS):
            variant = self._variant(name, endpoint, wanted)
            replica = variant.pick()
            if replica is None:
                raise ApiError(
                    "ModelNotReadyException", f"no instance of variant {variant.name} is ready; try again", 429
                )
            replica.in_flight += 1
            sent = time.perf_counter()
            try:
                async with replica.client.post("/invocations", data=body, headers=headers) as answer:
                    content = await answer.read()
            except aiohttp.ClientConnectorError:
                # The replica died before it took the request: another one may answer it.
                replica.ready = replica.running
                if attempt == _ATTEMPTS - 1:
                    raise self._model_error(
                        name, variant, 503, "the container refuses connections", started, sent
                    ) from None
                await asyncio.sleep(0.05)
                continue
            except TimeoutError:
                raise self._model_error(
                    name, variant, 504, "the container did not answer in time", started, sent
                ) from None
            except aiohttp.ClientError:
                raise self._model_error(
                    name, variant, 502, "the container closed the connection without an answer", started, sent
                ) from None
            finally:
                replica.in_flight -= 1
            if answer.status >= 400:
                text = content.decode(errors="replace")
                raise self._model_error(name, variant, answer.status, text, started, sent)
            ended = time.perf_counter()
            self._metrics.record(name, variant.name, 200, (ended - sent) * 1e6, (sent - started) * 1e6)
            passed = {"x-Amzn-Invoked-Production-Variant": variant.name}
            if attributes := answer.headers.get("x-amzn-sagemaker-custom-attributes"):
                passed["X-Amzn-SageMaker-Custom-Attributes"] = attributes
            return Response(content, headers=passed, media_type=answer.headers.get("content-type"))
        raise AssertionError("every attempt returns or raises")

    def _endpoint(self, name: str) -> dict[str, object]:
        try:
            endpoint = self._control.endpoint(name)
        except ApiError:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.") from None
        if name not in self._control.fleets:
            raise ApiError("ValidationError", f"Endpoint {name} is {endpoint['EndpointStatus']}, not InService.")
        return endpoint

    def _variant(self, name: str, endpoint: dict[str, object], wanted: str | None) -> VariantFleet:
        fleet = self._control.fleets[name]
        if wanted is None:
            return fleet.pick_variant()
        if wanted not in fleet.variants:
            raise ApiError(
                "ValidationError",
                f"Variant {wanted} was not found in endpoint {endpoint['EndpointArn']}; "
                f"it has: {', '.join(fleet.variants)}",
            )
        return fleet.variants[wanted]

    def _model_error(
        self, name: str, variant: VariantFleet, status: int, message: str, started: float, sent: float
    ) -> ApiError:
        self._metrics.record(name, variant.name, status, (time.perf_counter() - sent) * 1e6, (sent - started) * 1e6)
        side = "client" if status < 500 else "server"
        log_group = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/sagemaker/Endpoints/{name}"
        return ApiError(
            "ModelError",
            f'Received {side} error ({status}) from {variant.name} with message "{message[:1024]}". '
            f"See `inference local logs {name}`.",
            424,
            OriginalStatusCode=status,
            OriginalMessage=message[:1024],
            LogStreamArn=log_group,
        )


def runtime_error(error: ApiError) -> Response:
    """An error as sagemaker-runtime's REST-JSON protocol carries it."""
    return JSONResponse(
        {"Message": str(error), "message": str(error), **error.members},
        error.status,
        {"x-amzn-ErrorType": error.code},
    )


def create_app(state: Path) -> Starlette:
    """The application over one state folder."""
    control = ControlPlane(state)
    metrics = Metrics(control)
    runtime = Runtime(control, metrics)

    async def api(request: Request) -> Response:
        operation = request.headers.get("x-amz-target", ".").rpartition(".")[2]
        try:
            return JSONResponse(
                control.handle(operation, json.loads(await request.body() or b"{}")),
                media_type="application/x-amz-json-1.1",
            )
        except ApiError as error:
            return JSONResponse(
                {"__type": error.code, "message": str(error)}, error.status, media_type="application/x-amz-json-1.1"
            )
        except KeyError as error:
            return JSONResponse({"__type": "ValidationException", "message": f"{error.args[0]} is missing"}, 400)

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({})

    async def status(request: Request) -> Response:
        del request
        return JSONResponse(control.status())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        control.restore()
        publisher = asyncio.create_task(metrics.publish_forever())
        yield
        publisher.cancel()
        await control.close()

    return Starlette(
        routes=[
            Route("/", api, methods=["POST"]),
            Route("/endpoints/{name}/invocations", runtime.invoke, methods=["POST"]),
            Route("/_local/health", health),
            Route("/_local/status", status),
        ],
        lifespan=lifespan,
    )


def main() -> None:
    """Serves until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    port = urlparse(os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]).port
    assert port is not None
    app = create_app(Path(os.environ[STATE_VARIABLE]))
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )  # fmt: skip


if __name__ == "__main__":
    main()
