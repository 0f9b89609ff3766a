"""One worker of the Python service, which runs handlers as SageMaker's container does."""

import argparse
import io
import os
import random
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_aws.fake_images.tensorflow_serving.attributes import ATTRIBUTES_HEADER, api_path, parse_attributes
from local_aws.fake_images.tensorflow_serving.bodies import JSON
from local_aws.fake_images.tensorflow_serving.handlers import SCRIPT, Context, Handler, default_handler, load_handler
from local_aws.fake_images.tensorflow_serving.proxy import error_response
from local_aws.fake_images.tensorflow_serving.settings import LOADED_PATH

_LIB = "lib"


@dataclass(frozen=True, slots=True)
class _ModelServer:
    """A model server's ports, and a channel to its gRPC API; None in multi-model mode, as in the container."""

    rest_port: str
    grpc_port: str
    channel: Any


class PythonService:
    """Handlers and model servers of a worker.

    code: folder of the script for all models. default_model: what a request without a model's name is for.
    """

    def __init__(self, servers: Sequence[_ModelServer], code: Path, default_model: str) -> None:
        self._servers, self._default_model = servers, default_model
        script = code / SCRIPT
        self._handler = load_handler(script) if script.is_file() else default_handler
        self._own_handlers: dict[str, Handler] = {}

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self._ping),
                Route("/invocations", self._invoke, methods=["POST"]),
                Route("/models/{name}/invoke", self._invoke, methods=["POST"]),
                Route(LOADED_PATH + "/{name}", self._change, methods=["PUT", "DELETE"]),
            ]
        )

    async def _ping(self, _request: Request) -> Response:
        return Response()

    async def _change(self, request: Request) -> Response:
        """Import the script of a model that is loaded, or drop that of one that is unloaded."""
        name, folder = request.path_params["name"], Path((await request.body()).decode())
        self._own_handlers.pop(name, None)
        script = folder / "code" / SCRIPT
        if request.method == "PUT" and script.is_file():
            sys.path.append(str(script.parent / _LIB))
            try:
                self._own_handlers[name] = await run_in_threadpool(load_handler, script)
            except Exception as error:
                return error_response(500, f"code/{SCRIPT} cannot be imported: {type(error).__name__}: {error}")
        return Response()

    async def _invoke(self, request: Request) -> Response:
        body = await request.body()
        try:
            return await run_in_threadpool(self._response, request.path_params.get("name"), body, request)
        except Exception as error:
            traceback.print_exception(error)
            return error_response(500, str(error))

    def _response(self, model: str | None, body: bytes, request: Request) -> Response:
        handler = self._own_handlers.get(model or "", self._handler)
        content, media_type = handler(io.BytesIO(body), self._context(model, body, request))
        if not isinstance(content, str | bytes):
            raise TypeError(f"the handler returned a body of type {type(content).__name__}: it must be str or bytes")
        return Response(content, headers={"content-type": media_type or JSON})

    def _context(self, model: str | None, body: bytes, request: Request) -> Any:
        given = request.headers.get(ATTRIBUTES_HEADER)
        attributes = parse_attributes(given or "")
        server = random.choice(self._servers)
        path = api_path(attributes if model is None else {**attributes, "tfs-model-name": model}, self._default_model)
        return Context(
            model or attributes.get("tfs-model-name"),
            attributes.get("tfs-model-version"),
            attributes.get("tfs-method"),
            f"http://localhost:{server.rest_port}{path}",
            server.grpc_port,
            server.channel,
            given,
            request.headers.get("content-type") or JSON,
            request.headers.get("accept") or JSON,
            len(body),
        )


def _servers(rest_ports: str, grpc_ports: str, *, channels: bool) -> list[_ModelServer]:
    return [
        _ModelServer(rest, rpc, grpc.insecure_channel(f"localhost:{rpc}") if channels else None)
        for rest, rpc in zip(rest_ports.split(","), grpc_ports.split(","), strict=True)
    ]


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; return 1 for a script that cannot be imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_ports", required=True)
    parser.add_argument("--grpc_ports", required=True)
    parser.add_argument("--default_model", required=True)
    parser.add_argument("--multi_model", action="store_true")
    options = parser.parse_args(arguments)
    os.environ |= {
        "TFS_REST_PORTS": options.rest_ports,
        "TFS_GRPC_PORTS": options.grpc_ports,
        "TFS_DEFAULT_MODEL_NAME": options.default_model,
    }
    # Before this project's own modules, some of which have common names.
    sys.path.insert(0, str(options.code))
    servers = _servers(options.rest_ports, options.grpc_ports, channels=not options.multi_model)
    try:
        service = PythonService(servers, options.code, options.default_model)
    except Exception as error:
        traceback.print_exception(error)
        print(f"cannot import code/{SCRIPT}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    uvicorn.run(service.application(), host="127.0.0.1", port=options.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
