"""TensorFlow Serving's messages about loaded models, which REST and gRPC share."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from local_aws.fake_images.tensorflow_serving.servables import Servable


def model_status(versions: Sequence[int]) -> Any:
    """Return the GetModelStatusResponse of available versions."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        response.model_version_status.add(
            version=version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        ).status.error_message = ""
    return response


def model_spec(servable: Servable, signature: str = "") -> Any:
    """Return the ModelSpec of a response."""
    spec = model_pb2.ModelSpec(name=servable.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


def signatures(servable: Servable) -> Any:
    """Return the SignatureDefMap of a model."""
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.definitions.items():
        found.signature_def[name].CopyFrom(definition)
    return found


def to_json(message: Any) -> Any:
    """Return a message as JSON values, in the form of TensorFlow Serving's RESTful API."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
