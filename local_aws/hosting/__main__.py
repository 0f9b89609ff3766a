"""Hosting process: SageMaker's control plane and runtime on one loopback port."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlparse

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from containers.serving.connections import BoundedHttpProtocol
from local_aws.account import STATE_VARIABLE, Engine, default_cache, engine
from local_aws.api.application_autoscaling import APPLICATION_AUTOSCALING
from local_aws.authentication.credentials import CredentialStore
from local_aws.authentication.middleware import Authentication
from local_aws.hosting.background import restarted
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.data_capture import DataCapture
from local_aws.hosting.json_api import JsonApi, JsonService
from local_aws.hosting.logs import LogShipper
from local_aws.hosting.metrics import Metrics
from local_aws.hosting.request_ids import RequestIds
from local_aws.hosting.runtime import Runtime, unknown
from local_aws.hosting.scaling import ScalingService
from local_aws.hosting.service_model import SAGEMAKER, ServiceModel
from local_aws.podman.state import HOSTING, remove_containers

_HOST = "127.0.0.1"


def create_app(state: Path) -> Starlette:
    """Return the application for one state folder."""
    control = ControlPlane(state)
    metrics = Metrics(control)
    capture = DataCapture()
    runtime = Runtime(control, metrics, capture)
    scaling = ScalingService(state, control, metrics)
    control.forgotten = scaling.forget
    control.is_scaled = scaling.has_target
    logs = LogShipper(state / "logs", control.serves)

    api = JsonApi(
        {
            "SageMaker": JsonService(SAGEMAKER, control.handle, control.operations),
            "AnyScaleFrontendService": JsonService(
                ServiceModel("application-autoscaling", APPLICATION_AUTOSCALING), scaling.handle, scaling.operations
            ),
        }
    )

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
        loops = (metrics.publish_forever, scaling.run, logs.ship_forever, capture.write_forever)
        tasks = [asyncio.create_task(restarted(loop)) for loop in loops]
        yield
        for task in tasks:
            task.cancel()
        await capture.write()
        await control.close()

    return Starlette(
        routes=[
            Route("/", api.respond, methods=["POST"]),
            Route("/endpoints/{name}/{operation}", runtime.respond, methods=["POST"]),
            Route("/_local/health", health),
            Route("/_local/status", status),
            Route("/_local/publish", publish, methods=["POST"]),
            Route("/{path:path}", unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
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
