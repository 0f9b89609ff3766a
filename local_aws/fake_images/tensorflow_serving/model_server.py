"""Fake of `tensorflow_model_server`: its flags and APIs on plain TensorFlow, for all models of one container."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from google.protobuf import text_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.config import model_server_config_pb2

from local_aws.fake_images.tensorflow_serving import grpc_api, json_text
from local_aws.fake_images.tensorflow_serving.batching import BatchScheduler
from local_aws.fake_images.tensorflow_serving.bundles import Bundle, bundle
from local_aws.fake_images.tensorflow_serving.errors import StatusError, invalid
from local_aws.fake_images.tensorflow_serving.models import Models
from local_aws.fake_images.tensorflow_serving.rest_api import RestApi
from local_aws.fake_images.tensorflow_serving.servables import session_config
from local_aws.fake_images.tensorflow_serving.settings import LOADED_PATH, Batching, SettingsError

JSON = "application/json"
_PARAMETER = re.compile(r"(?P<name>\w+)\s*{\s*value\s*:\s*(?P<value>\d+)\s*}")


class _Server:
    """The HTTP server's routes."""

    def __init__(self, models: Models, threads: int) -> None:
        self._models, self._api = models, RestApi(models)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rest")

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route(LOADED_PATH, self._list),
                Route(LOADED_PATH + "/{name}", self._change, methods=["PUT", "DELETE"]),
                Route("/{path:path}", self._respond, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )

    async def _respond(self, request: Request) -> Response:
        body = await request.body()
        return await self._off_loop(lambda: self._api.respond(request.method, request.scope["path"], body))

    async def _list(self, _request: Request) -> Response:
        return Response(msgspec.json.encode(self._models.names), media_type=JSON)

    async def _change(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.body()

        def load() -> bytes:
            try:
                found = bundle(name, Path(body.decode()))
            except SettingsError as error:
                raise invalid(str(error)) from None
            self._models.load(name, _folders(found))
            return b"{}"

        def unload() -> bytes:
            self._models.unload(name)
            return b"{}"

        return await self._off_loop(load if request.method == "PUT" else unload)

    async def _off_loop(self, work: Callable[[], bytes]) -> Response:
        return await asyncio.get_running_loop().run_in_executor(self._executor, _response, work)


def _response(work: Callable[[], bytes]) -> Response:
    try:
        return Response(work(), media_type=JSON)
    except StatusError as error:
        return Response(json_text.error(str(error)), error.code.http_status, media_type=JSON)


def _folders(found: Bundle) -> dict[int, Path]:
    return {version: found.folder(version) for version in found.versions}


def _configured(path: Path) -> list[Bundle]:
    """Return the models of a configuration file in TensorFlow Serving's format."""
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), config)
    return [
        Bundle(each.name, Path(each.base_path), tuple(each.model_version_policy.specific.versions))
        for each in config.model_config_list.config
    ]


def _scheduler(options: Any) -> BatchScheduler | None:
    if options.enable_batching != "true":
        return None
    text = options.batching_parameters_file.read_text()
    return BatchScheduler(Batching(**{match["name"]: int(match["value"]) for match in _PARAMETER.finditer(text)}))


def main(arguments: list[str]) -> int:
    """Load the models of a configuration file and serve them; return 1 if one cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--enable_batching", choices=("true", "false"), default="false")
    parser.add_argument("--batching_parameters_file", type=Path)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0)
    # TensorFlow Serving's own default is four times the cores.
    parser.add_argument("--rest_api_num_threads", type=int, default=4 * (os.cpu_count() or 1))
    options = parser.parse_args(arguments)
    config = session_config(options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism)
    models = Models(config, _scheduler(options))
    for found in _configured(options.model_config_file):
        try:
            models.load(found.name, _folders(found))
        except StatusError as error:
            print(f"cannot load {error}", file=sys.stderr, flush=True)
            return 1
        print(f"loaded model {found.name}, versions {', '.join(map(str, found.versions))}", flush=True)
    rpc = grpc_api.serve(models, options.port, options.rest_api_num_threads)
    uvicorn.run(
        _Server(models, options.rest_api_num_threads).application(),
        host="127.0.0.1",
        port=options.rest_api_port,
        log_level="warning",
        access_log=False,
    )
    rpc.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
