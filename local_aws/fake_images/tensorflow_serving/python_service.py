"""One worker of the Python service, which runs a model archive's `inference.py` as SageMaker's container does."""

import argparse
import importlib.util
import os
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_aws.fake_images.tensorflow_serving.tfs import JSON, parse_attributes, predict_path

# Fields and order as SageMaker's container passes them to a handler.
Context = namedtuple(
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length",
)
Handler = Callable[[Any, Any], Any]


class _Stream:
    """Request body in the form that the container's handlers read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        """Return the rest of the body, or its next `size` bytes."""
        taken = self._body if size < 0 else self._body[:size]
        self._body = self._body[len(taken) :]
        return taken


def load_handler(script: Path) -> Handler:
    """Return the script's `handler`, or its `input_handler` and `output_handler` around a REST API call."""
    sys.path[:0] = [str(script.parent), str(script.parent / "lib")]
    spec = importlib.util.spec_from_file_location("inference", script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "handler"):
        handler: Handler = module.handler
        return handler
    if not (hasattr(module, "input_handler") and hasattr(module, "output_handler")):
        raise ImportError(f"{script.name} has neither handler nor input_handler and output_handler")

    def through_rest(data: Any, context: Any) -> Any:
        response = requests.post(context.rest_uri, data=module.input_handler(data, context), timeout=60)
        return module.output_handler(response, context)

    return through_rest


def main(arguments: list[str]) -> int:
    """Serve `/ping` and `/invocations` until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_url", required=True)
    parser.add_argument("--grpc_port", required=True)
    parser.add_argument("--default_model", required=True)
    options = parser.parse_args(arguments)
    os.environ["TFS_DEFAULT_MODEL_NAME"] = options.default_model
    os.environ["TFS_GRPC_PORTS"] = options.grpc_port
    handler = load_handler(options.script)

    def invoke(body: bytes, headers: dict[str, str]) -> Response:
        given = headers.get("x-amzn-sagemaker-custom-attributes", "")
        attributes = parse_attributes(given)
        context = Context(
            attributes.get("tfs-model-name", options.default_model),
            attributes.get("tfs-model-version"),
            attributes.get("tfs-method", "predict"),
            options.rest_url + predict_path(attributes, options.default_model),
            options.grpc_port,
            None,
            given or None,
            headers.get("content-type", JSON),
            headers.get("accept", JSON),
            len(body),
        )
        content, media_type = handler(_Stream(body), context)
        return Response(content, media_type=media_type)

    async def invocations(request: Request) -> Response:
        body = await request.body()
        try:
            return await run_in_threadpool(invoke, body, dict(request.headers))
        except Exception as error:
            # SageMaker's container responds the same way.
            print(f"inference.py failed: {error!r}", flush=True)
            return Response(f'{{"error": "{type(error).__name__}"}}', 500, media_type=JSON)

    async def ping(_request: Request) -> Response:
        return Response()

    uvicorn.run(
        Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])]),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
