"""Convert the examples of classify and regress requests to tf.Example.

Source: tensorflow_serving/util/json_tensor.cc.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from local_aws.fake_images.tensorflow_serving.errors import invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Array, Object, decoded, is_binary, json_type, shown

_MAX_FLOAT = float(np.finfo(np.float32).max)
_MAX_INT64 = 2**63 - 1
_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def serialized(request: Object) -> Array:
    """Return the request's examples, each with its context, as serialized tf.Example; raise StatusError."""
    context = _example(request["context"]) if "context" in request else b""
    if "examples" not in request:
        raise invalid(
            f"JSON Value: {shown(request)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = request["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {shown(request)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {shown(request)} 'examples' value is an empty array")
    # The features of two serialized examples, one after the other, are those of both.
    return np.array([context + _example(example) for example in examples], object)


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = tf.train.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for member in content if isinstance(content, list) else [content]:
            _add(name, member, feature)
    return bytes(example.SerializeToString())


def _add(name: str, value: Any, feature: Any) -> None:
    kind, content = _content(name, value)
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    getattr(feature, kind).value.append(content)


def _content(name: str, value: Any) -> tuple[str, bytes | float]:
    """Return a JSON value as a member of a feature, with the kind of list that it belongs to."""
    match value:
        case bool():
            return "int64_list", int(value)
        case int():
            if value > _MAX_INT64:
                raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
            return "int64_list", value
        case float():
            if abs(value) > _MAX_FLOAT and np.isfinite(value):
                raise invalid(f"Cannot convert JSON value: {value} to float without loss of precision.")
            return "float_list", value
        case str():
            return "bytes_list", value.encode()
        case dict() if is_binary(value):
            return "bytes_list", decoded(value)
        case _:
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
