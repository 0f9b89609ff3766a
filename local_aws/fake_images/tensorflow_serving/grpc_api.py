"""TensorFlow Serving's gRPC API. Its methods that are missing here end with UNIMPLEMENTED."""

from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from local_aws.fake_images.tensorflow_serving import messages
from local_aws.fake_images.tensorflow_serving.errors import StatusError, invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Array
from local_aws.fake_images.tensorflow_serving.models import Models, ModelSpec
from local_aws.fake_images.tensorflow_serving.servables import DEFAULT_SIGNATURE

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def serve(models: Models, port: int, threads: int) -> Any:
    """Start and return the server, on loopback."""
    server = grpc.server(
        futures.ThreadPoolExecutor(threads),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(models), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def _answered(context: Any, answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except StatusError as error:
        context.abort(_CODES[error.code.value[0]], str(error))
        raise AssertionError("abort raises") from error


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        return _answered(context, lambda: self._predict(request))

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        return _answered(context, lambda: self._classify(request))

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        return _answered(context, lambda: self._regress(request))

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        return _answered(context, lambda: self._metadata(request))

    def _predict(self, request: Any) -> Any:
        servable = self._models.find(_spec(request))
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        outputs = servable.signature(name).predict(
            {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        )
        for wanted in request.output_filter:
            if wanted not in outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {wanted} Outputs expected to be in the set "
                    f"{{{','.join(outputs)}}}."
                )
        response = predict_pb2.PredictResponse(model_spec=messages.model_spec(servable, name))
        for key in request.output_filter or outputs:
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
        return response

    def _classify(self, request: Any) -> Any:
        servable = self._models.find(_spec(request))
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        response = classification_pb2.ClassificationResponse(model_spec=messages.model_spec(servable, name))
        for classes in servable.signature(name).classify(_serialized(request.input)):
            example = response.result.classifications.add()
            for label, score in classes:
                example.classes.add(label=label.decode("utf-8", "replace"), score=float(score))
        return response

    def _regress(self, request: Any) -> Any:
        servable = self._models.find(_spec(request))
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        response = regression_pb2.RegressionResponse(model_spec=messages.model_spec(servable, name))
        for value in servable.signature(name).regress(_serialized(request.input)):
            response.result.regressions.add(value=float(value))
        return response

    def _metadata(self, request: Any) -> Any:
        servable = self._models.find(_spec(request))
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=messages.model_spec(servable))
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
            response.metadata[field].Pack(messages.signatures(servable))
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name of the method
        return _answered(context, lambda: messages.model_status(self._models.available(_spec(request))))


def _spec(request: Any) -> ModelSpec:
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _serialized(given: Any) -> Array:
    if given.WhichOneof("kind") == "example_list_with_context":
        context, examples = given.example_list_with_context.context, given.example_list_with_context.examples
    else:
        context, examples = tf.train.Example(), given.example_list.examples
    if not examples:
        raise invalid("Input is empty.")
    prefix = context.SerializeToString()
    return np.array([prefix + example.SerializeToString() for example in examples], object)
