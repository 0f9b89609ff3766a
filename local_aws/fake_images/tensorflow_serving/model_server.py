"""Fake of `tensorflow_model_server`: its flags, REST API and gRPC Predict, on plain TensorFlow."""

import argparse
import asyncio
import base64
import gc
import os
import re
import sys
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import tensorflow as tf
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

JSON = "application/json"
_MODEL = re.compile(r"name:\s*['\"](?P<name>.+?)['\"]\s*base_path:\s*['\"](?P<path>.+?)['\"]", re.DOTALL)
_PARAMETER = re.compile(r"(?P<name>\w+)\s*{\s*value\s*:\s*(?P<value>\d+)\s*}")
_GRPC_STATUS = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND, 503: grpc.StatusCode.UNAVAILABLE}

Tensors = dict[str, Any]


class PredictError(Exception):
    """A request that failed, with its HTTP status and TensorFlow Serving's wording."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Signature:
    """A named function of a SavedModel, batched or not, with the types of its inputs and outputs."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    run: Callable[[Tensors], Tensors]


class Servable:
    """Highest version of one model."""

    def __init__(self, name: str, base_path: Path, batching: Mapping[str, int] | None) -> None:
        self.name = name
        self.version = max(int(path.name) for path in base_path.iterdir() if path.name.isdigit())
        self._model = tf.saved_model.load(str(base_path / str(self.version)))
        self.signatures = {key: _signature(loaded, batching) for key, loaded in self._model.signatures.items()}

    def predict(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return outputs by name; raise PredictError for inputs that the signature does not take."""
        signature = self.signatures.get(name)
        if signature is None:
            raise PredictError(400, f'Serving signature name: "{name}" not found in signature def')
        if set(inputs) != set(signature.inputs):
            raise PredictError(400, f"input tensors are {sorted(inputs)}, the signature's {sorted(signature.inputs)}")
        try:
            tensors = {key: _tensor(key, value, signature.inputs[key]) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in signature.run(tensors).items()}
        except (ValueError, TypeError, OverflowError, tf.errors.InvalidArgumentError) as error:
            raise PredictError(400, str(error)[:400]) from error
        except tf.errors.UnavailableError as error:
            raise PredictError(503, str(error)[:400]) from error


def _tensor(name: str, value: Any, spec: Any) -> Any:
    array = np.asarray(value, dtype=spec.dtype.as_numpy_dtype)
    # TensorFlow with oneDNN crashes on an input of the wrong rank.
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"input {name} has shape {list(array.shape)}, the signature's is {spec.shape}")
    return tf.constant(array)


def _signature(loaded: Any, batching: Mapping[str, int] | None) -> Signature:
    inputs, outputs = loaded.structured_input_signature[1], loaded.structured_outputs
    if batching is None:
        return Signature(inputs, outputs, lambda tensors: loaded(**tensors))
    names, results = sorted(inputs), sorted(outputs)

    @tf.nondifferentiable_batch_function(**batching)
    def batched(*tensors: Any) -> list[Any]:
        response = loaded(**dict(zip(names, tensors, strict=True)))
        return [response[key] for key in results]

    call = tf.function(
        lambda *tensors: batched(*tensors),
        input_signature=[tf.TensorSpec(inputs[key].shape, inputs[key].dtype) for key in names],
    )
    return Signature(
        inputs,
        outputs,
        lambda tensors: dict(zip(results, call(*(tensors[key] for key in names)), strict=True)),
    )


class ModelServer:
    """All servables, over REST and gRPC."""

    def __init__(self, servables: Mapping[str, Servable]) -> None:
        self._servables = servables

    def servable(self, name: str, version: str | None) -> Servable:
        """Return a servable; raise PredictError 404 if the model or version does not exist."""
        servable = self._servables.get(name)
        if servable is None or (version is not None and int(version) != servable.version):
            asked = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise PredictError(404, f"Servable not found for request: {asked}")
        return servable

    def predict_json(self, name: str, version: str | None, body: bytes) -> Any:
        """Return the response to a REST request in row or column format; raise PredictError."""
        servable = self.servable(name, version)
        try:
            request = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PredictError(400, f"JSON Parse error: {error}") from error
        if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
            raise PredictError(400, "Missing 'inputs' or 'instances' key")
        signature_name = request.get("signature_name") or "serving_default"
        signature = servable.signatures.get(signature_name)
        if signature is None:
            raise PredictError(400, f'Serving signature name: "{signature_name}" not found in signature def')
        # Searching an image's numbers for binary values would take longer than parsing them.
        if b'"b64"' in body:
            request = decoded(request)
        if "inputs" in request:
            given = request["inputs"]
            named = given if isinstance(given, dict) else _only(signature, given)
            outputs = servable.predict(signature_name, named)
            columns = {key: _listed(key, value) for key, value in outputs.items()}
            return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
        instances = request["instances"]
        if not isinstance(instances, list) or not instances:
            raise PredictError(400, "JSON Value: instances must be a list with one or more elements")
        if isinstance(instances[0], dict):
            try:
                named = {key: [instance[key] for instance in instances] for key in instances[0]}
            except (KeyError, TypeError) as error:
                raise PredictError(400, f"an element of instances has no input {error}") from error
        else:
            named = _only(signature, instances)
        outputs = servable.predict(signature_name, named)
        if len(outputs) == 1:
            ((name, values),) = outputs.items()
            return {"predictions": _listed(name, values)}
        columns = {key: _listed(key, value) for key, value in outputs.items()}
        return {
            "predictions": [{key: value[index] for key, value in columns.items()} for index in range(len(instances))]
        }

    def rest(self, threads: int) -> Starlette:
        """Return the REST application; predictions run on `threads` threads."""
        executor = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")

        async def predict(request: Request) -> Response:
            parameters = request.path_params
            body = await request.body()
            return await asyncio.get_running_loop().run_in_executor(
                executor,
                _respond,
                lambda: self.predict_json(parameters["name"], parameters.get("version"), body),
            )

        async def status(request: Request) -> Response:
            parameters = request.path_params
            return _respond(lambda: _status(self.servable(parameters["name"], parameters.get("version"))))

        async def metadata(request: Request) -> Response:
            parameters = request.path_params
            return _respond(lambda: _metadata(self.servable(parameters["name"], parameters.get("version"))))

        routes = []
        for model in ("/v1/models/{name}", "/v1/models/{name}/versions/{version:int}"):
            # A model's name may contain dots but no colon; the method follows the colon.
            routes += [
                Route(f"{model}:predict", predict, methods=["POST"]),
                Route(f"{model}/metadata", metadata),
                Route(model, status),
            ]
        return Starlette(routes=routes)

    def grpc(self, port: int, threads: int) -> Any:
        """Start and return the gRPC server, on loopback."""
        server = grpc.server(
            futures.ThreadPoolExecutor(threads),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(self), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: ModelServer) -> None:
        self._models = models

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        spec = request.model_spec
        try:
            servable = self._models.servable(spec.name, None)
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            outputs = servable.predict(spec.signature_name or "serving_default", inputs)
        except PredictError as error:
            context.abort(_GRPC_STATUS[error.status], str(error))
            raise AssertionError("abort raises") from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        response.model_spec.signature_name = spec.signature_name or "serving_default"
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response


def decoded(value: Any) -> Any:
    """Decode every `{"b64": ...}` in a JSON value to bytes; raise PredictError.

    Source: "Encoding binary values" of TensorFlow Serving's RESTful API.
    """
    if isinstance(value, dict):
        if set(value) == {"b64"}:
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (TypeError, ValueError) as error:
                raise PredictError(400, f"JSON Value: b64 is not base64: {error}") from error
        return {key: decoded(member) for key, member in value.items()}
    return [decoded(member) for member in value] if isinstance(value, list) else value


def _listed(name: str, array: Any) -> Any:
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):
        return _each(array.tolist(), lambda text: {"b64": base64.b64encode(text).decode()})
    return _each(array.tolist(), lambda text: text.decode(errors="replace"))


def _each(value: Any, convert: Callable[[bytes], Any]) -> Any:
    return [_each(member, convert) for member in value] if isinstance(value, list) else convert(value)


def _only(signature: Signature, value: Any) -> dict[str, Any]:
    if len(signature.inputs) != 1:
        raise PredictError(400, f"the signature has inputs {sorted(signature.inputs)}: name them in each instance")
    return {next(iter(signature.inputs)): value}


def _respond(make: Callable[[], Any]) -> Response:
    try:
        return Response(msgspec.json.encode(make()), media_type=JSON)
    except PredictError as error:
        return Response(msgspec.json.encode({"error": str(error)}), error.status, media_type=JSON)


def _status(servable: Servable) -> Any:
    state = {
        "version": str(servable.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return {"model_version_status": [state]}


def _metadata(servable: Servable) -> Any:
    def tensors(specs: Mapping[str, Any]) -> Any:
        return {
            key: {
                "dtype": tf.dtypes.as_dtype(spec.dtype).name,
                "tensor_shape": {"dim": [{"size": str(-1 if size is None else size)} for size in spec.shape]},
            }
            for key, spec in specs.items()
        }

    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    key: {
                        "inputs": tensors(signature.inputs),
                        "outputs": tensors(signature.outputs),
                        "method_name": "tensorflow/serving/predict",
                    }
                    for key, signature in servable.signatures.items()
                }
            }
        },
    }


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
    tf.config.threading.set_intra_op_parallelism_threads(options.tensorflow_intra_op_parallelism)
    tf.config.threading.set_inter_op_parallelism_threads(options.tensorflow_inter_op_parallelism)
    batching = None
    if options.enable_batching == "true":
        text = options.batching_parameters_file.read_text() if options.batching_parameters_file else ""
        batching = {match["name"]: int(match["value"]) for match in _PARAMETER.finditer(text)}
    servables = {}
    for match in _MODEL.finditer(options.model_config_file.read_text()):
        try:
            servable = Servable(match["name"], Path(match["path"]), batching)
        except (OSError, ValueError, tf.errors.OpError) as error:
            print(f"cannot load {match['name']}: {str(error)[:300]}", file=sys.stderr)
            return 1
        servables[servable.name] = servable
        print(f"loaded servable {servable.name}, version {servable.version}", flush=True)
    # An image in JSON is a hundred thousand objects. Creating them makes Python's collector scan all of TensorFlow's
    # objects: 0.13 s per request, which TensorFlow Serving does not spend.
    gc.collect()
    gc.freeze()
    server = ModelServer(servables)
    rpc = server.grpc(options.port, options.rest_api_num_threads)
    uvicorn.run(
        server.rest(options.rest_api_num_threads),
        host="127.0.0.1",
        port=options.rest_api_port,
        log_level="warning",
        access_log=False,
    )
    rpc.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
