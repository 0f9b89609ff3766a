"""TensorFlow Serving's RESTful API.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

import re
from typing import Any

import msgspec

from local_aws.fake_images.tensorflow_serving import examples, json_tensors, json_text, messages
from local_aws.fake_images.tensorflow_serving.errors import invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Object, shown
from local_aws.fake_images.tensorflow_serving.models import Models, ModelSpec
from local_aws.fake_images.tensorflow_serving.servables import Signature

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.I)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.I)
_MAX_VERSION = 2**63 - 1


class RestApi:
    """The API's methods on loaded models."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._methods = {"classify": self._classify, "regress": self._regress, "predict": self._predict}

    def respond(self, method: str, path: str, body: bytes) -> bytes:
        """Return the body of a response; raise StatusError."""
        prediction, status = _PREDICTION.fullmatch(path), _STATUS.fullmatch(path)
        if method == "POST" and prediction is not None:
            return self._methods[prediction["method"].lower()](_spec(prediction), body)
        if method == "GET" and status is not None:
            if status["name"] is None:
                raise invalid("Missing model name in request.")
            answer = self._metadata if status["metadata"] else self._status
            return msgspec.json.format(msgspec.json.encode(answer(_spec(status))), indent=1)
        raise invalid(f"Malformed request: {method} {path}")

    def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        request = json_text.parse(body)
        signature = self._signature(spec, request)
        if not signature.inputs:
            raise invalid(f"Failed to get input map for signature: {request.get('signature_name') or 'DEFAULT'}")
        inputs, in_rows = json_tensors.from_request(request, signature.inputs)
        outputs = signature.predict(inputs)
        return json_text.rows(outputs) if in_rows else json_text.columns(outputs)

    def _classify(self, spec: ModelSpec, body: bytes) -> bytes:
        request = json_text.parse(body)
        serialized = examples.serialized(request)
        return json_text.classifications(self._signature(spec, request).classify(serialized))

    def _regress(self, spec: ModelSpec, body: bytes) -> bytes:
        request = json_text.parse(body)
        serialized = examples.serialized(request)
        return json_text.regressions(self._signature(spec, request).regress(serialized))

    def _signature(self, spec: ModelSpec, request: Object) -> Signature:
        name = request.get("signature_name", "")
        if not isinstance(name, str):
            raise invalid(
                f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' key must be a string value."
            )
        return self._models.find(spec).signature(name)

    def _status(self, spec: ModelSpec) -> Any:
        return messages.to_json(messages.model_status(self._models.available(spec)))

    def _metadata(self, spec: ModelSpec) -> Any:
        servable = self._models.find(spec)
        return {
            "model_spec": messages.to_json(messages.model_spec(servable)),
            "metadata": {"signature_def": messages.to_json(messages.signatures(servable))},
        }


def _spec(path: re.Match[str]) -> ModelSpec:
    version = path["version"]
    if version is not None and int(version) > _MAX_VERSION:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return ModelSpec(path["name"], None if version is None else int(version), path["label"])
