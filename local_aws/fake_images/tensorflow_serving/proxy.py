"""Reverse proxy for the container's processes, like nginx in SageMaker's container.

Source: docker/build_artifacts/sagemaker/nginx.conf.template of aws/sagemaker-tensorflow-serving-container.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from local_aws.fake_images.tensorflow_serving.attributes import ATTRIBUTES_HEADER, api_path, parse_attributes
from local_aws.fake_images.tensorflow_serving.backend import Backend
from local_aws.fake_images.tensorflow_serving.bodies import JSON, MediaTypeError, to_request, to_response

_FORWARDED = ("content-type", "accept", ATTRIBUTES_HEADER)


class Proxy:
    """Forward requests to model servers and to workers of the Python service, in turn.

    default_model: what a request without a model's name is for.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        servers: Sequence[Backend],
        services: Sequence[Backend],
        default_model: str,
    ) -> None:
        self.client, self.servers, self.services = client, servers, services
        self._default_model = default_model
        self._turn: Iterator[Backend] = itertools.cycle(services or servers)

    async def ping(self, _request: Request) -> Response:
        """Respond with 200 once every process has its model, else 502."""
        states = await asyncio.gather(*(backend.ready(self.client) for backend in (*self.servers, *self.services)))
        return Response(status_code=200 if all(states) else 502)

    async def invocations(self, request: Request) -> Response:
        """Forward a request to the Python service, or converted to TensorFlow Serving."""
        if self.services:
            return await self.to_service(request, "/invocations")
        try:
            body = to_request(await request.body(), request.headers.get("content-type"))
        except MediaTypeError as error:
            return error_response(415, str(error))
        path = api_path(parse_attributes(request.headers.get(ATTRIBUTES_HEADER, "")), self._default_model)
        reply = await self.send("POST", next(self._turn).url + path, body, {"content-type": JSON})
        content, media_type = to_response(bytes(reply.body), request.headers.get("accept"))
        return Response(content, reply.status_code, {"content-type": media_type})

    async def to_service(self, request: Request, path: str) -> Response:
        """Forward a request unchanged to a worker of the Python service."""
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        return await self.send("POST", next(self._turn).url + path, await request.body(), headers)

    async def send(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> Response:
        """Return a process's response, or nginx's error if there is none."""
        try:
            async with self.client.request(method, url, data=body, headers=headers) as response:
                media_type = {"content-type": response.headers.get("content-type", JSON)}
                return Response(await response.read(), response.status, media_type)
        except TimeoutError:
            return error_response(504, "the model server did not respond in time")
        except aiohttp.ClientError:
            return error_response(502, "the model server ended or did not respond; it is being restarted")


def error_response(status: int, message: str) -> Response:
    """Return an error in the container's form."""
    return json_response(status, {"error": message})


def json_response(status: int, value: Any) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(value), status, {"content-type": JSON})


async def not_found(_request: Request, _error: Exception) -> Response:
    """Return nginx's response to an unknown path."""
    return error_response(404, "Not Found")


@asynccontextmanager
async def proxy_client(timeout_seconds: float) -> Any:
    """Yield a session that adds no headers of its own to a request."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    ) as client:
        yield client
