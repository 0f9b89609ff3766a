"""A model archive's `inference.py`: its handlers, and what the Python service passes to them.

Source: docker/build_artifacts/sagemaker/python_service.py of aws/sagemaker-tensorflow-serving-container.
"""

import importlib.util
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

# Fields and order as SageMaker's container passes them to a handler.
Context = namedtuple(
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length",
)
Handler = Callable[[Any, Any], Any]
SCRIPT = "inference.py"


def default_handler(data: Any, context: Any) -> Any:
    """Pass a request on to TensorFlow Serving, and its response back with status 200, errors too, as the image does."""
    response = requests.post(context.rest_uri, data=data.read().decode("utf-8"))
    return response.content, context.accept_header


def load_handler(script: Path) -> Handler:
    """Return the script's `handler`, or its `input_handler` and `output_handler` around a REST API call.

    Raises whatever the script raises.
    """
    spec = importlib.util.spec_from_file_location(script.stem, script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "handler"):
        handler: Handler = module.handler
        return handler
    if not (hasattr(module, "input_handler") and hasattr(module, "output_handler")):
        raise NotImplementedError("Handlers are not implemented correctly in user script.")
    return _through_rest(module)


def _through_rest(module: ModuleType) -> Handler:
    def handler(data: Any, context: Any) -> Any:
        # The container passes no time limit either: its proxy has one.
        response = requests.post(context.rest_uri, data=module.input_handler(data, context))
        return module.output_handler(response, context)

    return handler
