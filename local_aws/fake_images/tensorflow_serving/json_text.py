"""Read and write JSON as TensorFlow Serving does: with NaN and Infinity, and in its layout.

Source: tensorflow_serving/util/json_tensor.cc.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from local_aws.fake_images.tensorflow_serving.errors import invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Array, Object, shown

_PARSE_ERRORS = {
    "Extra data": "The document root must not be followed by other values.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
}
"""RapidJSON's messages, by Python's. Both call everything else an invalid value."""
_FLOAT_DIGITS, _EXACT_DIGITS = 6, 9
"""Significant digits that TensorFlow Serving writes of a float: the first if they restore it, else the second."""


def parse(body: bytes) -> Object:
    """Return the object in a request's body; raise StatusError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    value = _value(body)
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} Is not object")
    return value


def _value(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise invalid("JSON Parse error: the document is nested too deeply") from None
    # Python's own parser is slower, but knows NaN and Infinity, and where an error is.
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        message = _PARSE_ERRORS.get(error.msg, "Invalid value.")
        raise invalid(f"JSON Parse error: {message} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.start}") from None


def rows(outputs: Mapping[str, Array]) -> bytes:
    """Return the response in row format; raise StatusError for outputs without one row for each instance."""
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    count = -1
    for name, output in outputs.items():
        if not output.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(output)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(output)} expecting: {count}")
        count = len(output)
    if len(outputs) == 1:
        ((name, output),) = outputs.items()
        return _document("predictions", _opened(_tensor(name, output)))
    written = [
        "{\n"
        + ",\n".join(f"            {json.dumps(name)}: {_tensor(name, outputs[name][row, ...])}" for name in outputs)
        + "\n        }"
        for row in range(count)
    ]
    return _document("predictions", "[\n        " + ",\n        ".join(written) + "\n    ]" if written else "[]")


def columns(outputs: Mapping[str, Array]) -> bytes:
    """Return the response in column format; raise StatusError."""
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if len(outputs) == 1:
        ((name, output),) = outputs.items()
        return _document("outputs", _tensor(name, output))
    written = ",\n".join(f"        {json.dumps(name)}: {_tensor(name, output)}" for name, output in outputs.items())
    return _document("outputs", "{\n" + written + "\n    }")


def regressions(values: NDArray[np.float32]) -> bytes:
    """Return the response to a regress request."""
    return _document("results", _tensor("", values))


def classifications(examples: Sequence[Sequence[tuple[bytes, np.float32]]]) -> bytes:
    """Return the response to a classify request: label and score of each class, for each example."""
    written = [
        "[" + ", ".join(f"[{_text(label)}, {_tensor('', np.array(score))}]" for label, score in classes) + "]"
        for classes in examples
    ]
    return _document("results", "[" + ", ".join(written) + "\n    ]")


def error(message: str) -> bytes:
    """Return the response to a request that failed."""
    return _document("error", json.dumps(message, ensure_ascii=False))


def _document(key: str, value: str) -> bytes:
    return f'{{\n    "{key}": {value}\n}}'.encode("utf-8", "surrogateescape")


def _opened(array: str) -> str:
    """Move the closing bracket to a line of its own, where RapidJSON leaves it."""
    return array if array == "[]" else array[:-1] + "\n    ]"


def _tensor(name: str, array: Array) -> str:
    """Return a tensor on one line."""
    if array.dtype == object:
        return _strings(array.tolist(), name.endswith("_bytes"))
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    if array.dtype.kind not in "biuf":
        # Types that NumPy does not have, such as bfloat16.
        array = array.astype(np.float32)
    if array.dtype.kind == "f":
        if array.dtype.itemsize < np.dtype(np.float64).itemsize:
            array = decimals(array.astype(np.float32))
        if not np.isfinite(array).all():
            return json.dumps(array.tolist())
    return msgspec.json.encode(array.tolist()).decode().replace(",", ", ")


def _strings(value: Any, binary: bool) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_strings(member, binary) for member in value) + "]"
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}' if binary else _text(value)


def _text(value: bytes) -> str:
    # TensorFlow Serving writes the bytes of a string as they are, even where they are no UTF-8.
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def decimals(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the decimal numbers that TensorFlow Serving writes: 0.1 for the float 0.100000001490116."""
    wide = values.astype(np.float64)
    short, exact = _rounded(wide, _FLOAT_DIGITS), _rounded(wide, _EXACT_DIGITS)
    with np.errstate(over="ignore"):
        written = np.where(exact.astype(np.float32) == values, exact, wide)
        return np.where(short.astype(np.float32) == values, short, written)


def _rounded(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** np.abs(places)
        scaled = np.where(places >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)
    return np.where(np.isfinite(scaled), scaled, values)
