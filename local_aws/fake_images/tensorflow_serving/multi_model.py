"""Multi-model mode: models are loaded, invoked and unloaded on request.

Source: docker/build_artifacts/sagemaker/python_service.py of aws/sagemaker-tensorflow-serving-container.
"""

import asyncio
import os
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from containers.serving.memory import memory_limit_bytes
from local_aws.fake_images.tensorflow_serving.backend import Backend
from local_aws.fake_images.tensorflow_serving.proxy import Proxy, error_response, json_response
from local_aws.fake_images.tensorflow_serving.settings import LOADED_PATH
from local_aws.hosting.memory import used_bytes

_MEMORY_PER_FILE_BYTE = 1.2
"""Memory of a model for each byte of its files, as TensorFlow Serving estimates it (EstimateResourceFromPath)."""


class _LoadRequest(msgspec.Struct):
    model_name: str
    url: str


class MultiModel:
    """SageMaker's multi-model API.

    max_models: most models that may be loaded; None for any number.
    """

    def __init__(self, proxy: Proxy, max_models: int | None) -> None:
        self._proxy, self._max_models = proxy, max_models
        self._loaded: set[str] = set()
        self._starts = 0
        self._changing = asyncio.Lock()

    async def load(self, request: Request) -> Response:
        """Load a model into every process."""
        try:
            asked = msgspec.json.decode(await request.body(), type=_LoadRequest)
        except msgspec.MsgspecError as error:
            return error_response(500, f"a request to load a model needs model_name and url: {error}")
        async with self._changing:
            return await self._load(asked.model_name, Path(asked.url))

    async def _load(self, name: str, folder: Path) -> Response:
        loaded = self._known()
        if name in loaded:
            return error_response(409, f"Model {name} is already loaded.")
        if self._max_models is not None and len(loaded) >= self._max_models:
            return error_response(507, "Memory exhausted: no available ports to load the model.")
        if not _has_version(folder):
            return error_response(404, f"Could not find valid base path {folder} for servable {name}")
        if not _fits(folder):
            return error_response(507, "Memory exhausted: not enough memory to start TFS instance")
        for backend in (*self._proxy.services, *self._proxy.servers):
            response = await self._change("PUT", backend, name, folder)
            if response.status_code != 200:
                await self._unload(name)
                failed = 408 if backend in self._proxy.servers else 500
                return Response(response.body, failed, {"content-type": "application/json"})
        loaded.add(name)
        return json_response(200, {"success": f"Successfully loaded model {name}."})

    async def unload(self, request: Request) -> Response:
        """Unload a model from every process."""
        name = request.path_params["name"]
        async with self._changing:
            if name not in self._known():
                return error_response(404, f"Model {name} is not loaded yet")
            await self._unload(name)
        return json_response(200, {"success": f"Successfully unloaded model {name}."})

    async def _unload(self, name: str) -> None:
        self._loaded.discard(name)
        for backend in (*self._proxy.services, *self._proxy.servers):
            await self._change("DELETE", backend, name, Path())

    async def _change(self, method: str, backend: Backend, name: str, folder: Path) -> Response:
        return await self._proxy.send(method, f"{backend.url}{LOADED_PATH}/{name}", str(folder).encode(), {})

    async def describe_all(self, _request: Request) -> Response:
        """Respond with the status of all models."""
        return json_response(200, {name: await self._status(name) for name in sorted(self._known())})

    async def describe(self, request: Request) -> Response:
        """Respond with the status of one model."""
        name = request.path_params["name"]
        if name not in self._known():
            return error_response(404, f"Model {name} is loaded yet.")
        return json_response(200, {"model": await self._status(name)})

    async def _status(self, name: str) -> msgspec.Raw:
        response = await self._proxy.send("GET", f"{self._proxy.servers[0].url}/v1/models/{name}", b"", {})
        return msgspec.Raw(response.body)

    async def invoke(self, request: Request) -> Response:
        """Forward a request to the handler of its model."""
        name = request.path_params["name"]
        if name not in self._known():
            return error_response(404, f"Model {name} is not loaded yet.")
        return await self._proxy.to_service(request, f"/models/{name}/invoke")

    async def invocations(self, _request: Request) -> Response:
        """Refuse a request that names no model."""
        return error_response(400, "Invocation request does not contain model name.")

    def _known(self) -> set[str]:
        """Return the loaded models: none after a process was restarted, because it has lost them."""
        starts = sum(backend.starts for backend in (*self._proxy.services, *self._proxy.servers))
        if starts != self._starts:
            self._starts = starts
            self._loaded = set()
        return self._loaded


def _has_version(folder: Path) -> bool:
    """Return whether a folder holds one named after a number, at any depth."""
    return any(name.isdigit() for _, folders, _ in os.walk(folder) for name in folders)


def _fits(folder: Path) -> bool:
    """Return whether a model fits into the container's memory, by the size of its files."""
    needed = _MEMORY_PER_FILE_BYTE * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    limit = memory_limit_bytes()
    return used_bytes(os.getpid(), limit) + needed <= limit
