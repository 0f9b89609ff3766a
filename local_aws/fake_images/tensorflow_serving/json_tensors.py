"""Convert JSON values to tensors with TensorFlow Serving's rules and errors.

Source: tensorflow_serving/util/json_tensor.cc, and "RESTful API" in TensorFlow Serving's documentation.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from local_aws.fake_images.tensorflow_serving.errors import Code, StatusError, invalid

Array = NDArray[Any]
Object = dict[str, Any]
_SHOWN_CHARACTERS = 1000
"""Most characters of a value in an error; TensorFlow Serving shows all of them."""
_INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a signature: its name in the graph, TensorFlow's name of its type, and its rank if it is known."""

    name: str
    dtype: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class _Type:
    """How JSON values become a type. whole: most that a whole number may be to become a decimal without loss."""

    numpy: type
    kinds: str
    accepts: Callable[[Any], bool]
    whole: int | None = None
    bounds: tuple[int, int] | None = None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integers(numpy: type, bounds: tuple[int, int]) -> _Type:
    return _Type(numpy, "iu", lambda value: _is_int(value) and bounds[0] <= value <= bounds[1], bounds=bounds)


def _decimals(numpy: type, digits: int) -> _Type:
    return _Type(numpy, "iuf", lambda value: _is_int(value) or isinstance(value, float), whole=2**digits - 1)


_TYPES = {
    "float": _decimals(np.float32, 24),
    "double": _decimals(np.float64, 53),
    # TensorFlow Serving checks small integers against 32 bits only, and drops the other bits.
    "int8": _integers(np.int8, _INT32),
    "uint8": _integers(np.uint8, _INT32),
    "int16": _integers(np.int16, _INT32),
    "int32": _integers(np.int32, _INT32),
    "uint32": _integers(np.uint32, (0, 2**32 - 1)),
    "int64": _integers(np.int64, (-(2**63), 2**63 - 1)),
    "uint64": _integers(np.uint64, (0, 2**64 - 1)),
    "bool": _Type(np.bool_, "b", lambda value: isinstance(value, bool)),
    "string": _Type(np.object_, "", lambda value: isinstance(value, str)),
}


def from_request(request: Object, inputs: Mapping[str, TensorInfo]) -> tuple[dict[str, Array], bool]:
    """Return the tensors of a predict request by name, and whether it is in row format; raise StatusError."""
    if "instances" in request and "inputs" in request:
        raise _format_error(
            request, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in request:
        instances = request["instances"]
        if not isinstance(instances, list):
            raise _format_error(request, "Excepting 'instances' to be an list/array")
        if not instances:
            raise _format_error(request, "No values in 'instances' array")
        return _from_instances(instances, inputs), True
    if "inputs" in request:
        return _from_inputs(request["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_instances(instances: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    first = instances[0]
    if not isinstance(first, dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_named(first):
        for index, element in enumerate(instances):
            if _is_named(element):
                raise invalid(f"Expecting value/list but got object at item {index} of input list")
        name, info = next(iter(inputs.items()))
        return {name: _column(instances, info.dtype, "")}
    for index, element in enumerate(instances):
        _check_names(index, element, inputs)
    return {
        name: _column([element[name] for element in instances], info.dtype, f" key: {name}")
        for name, info in inputs.items()
    }


def _check_names(index: int, element: Any, inputs: Mapping[str, TensorInfo]) -> None:
    if not _is_named(element):
        raise invalid(f"Expecting object but got list at item {index} of input list")
    for name in element:
        if name not in inputs:
            error = invalid(f"JSON object: does not have named input: {name}")
            raise invalid(f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error.text}")
    if len(element) < len(inputs):
        raise invalid(
            f"Failed to process element: {index} of 'instances' list. JSON object: {shown(element)} keys must be "
            f"equal to: {','.join(sorted(inputs))}"
        )


def _column(values: list[Any], dtype: str, key: str) -> Array:
    """Return the tensor of one input from its value in every instance."""
    fast = _plain_numbers(values, dtype)
    if fast is not None:
        return fast
    rows: list[Array] = []
    for index, value in enumerate(values):
        try:
            row = tensor(value, dtype)
            if rows and row.size != rows[0].size:
                raise invalid(f"Expecting tensor size: {rows[0].size} but got: {row.size}")
            if rows and row.shape != rows[0].shape:
                raise invalid(f"Expecting shape {_listed(rows[0].shape)} but got: {_listed(row.shape)}")
        except StatusError as error:
            raise invalid(f"Failed to process element: {index}{key} of 'instances' list. Error: {error.text}") from None
        rows.append(row)
    return np.stack(rows)


def _from_inputs(given: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if _is_named(given):
        for name in inputs:
            if name not in given:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        return {name: tensor(given[name], info.dtype) for name, info in inputs.items()}
    if len(inputs) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    name, info = next(iter(inputs.items()))
    return {name: tensor(given, info.dtype)}


def tensor(value: Any, dtype: str) -> Array:
    """Return a JSON value, with lists nested to any depth, as a tensor; raise StatusError."""
    fast = _plain_numbers(value, dtype)
    if fast is not None:
        return fast
    shape = _shape(value)
    values: list[Any] = []
    _fill(value, 0, shape, dtype, values)
    return np.array(values, _type(dtype).numpy).reshape(shape)


def _plain_numbers(value: Any, dtype: str) -> Array | None:
    """Return what NumPy converts as TensorFlow Serving does; None for anything else, which then gets an exact error.

    An image in JSON is a hundred thousand numbers, which take forty times as long one by one.
    """
    kind = _TYPES.get(dtype)
    if kind is None or not kind.kinds:
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    if array.dtype.kind not in kind.kinds or not array.size:
        return None
    if kind.bounds is not None and not _within(array, kind.bounds):
        return None
    if kind.whole is not None and not _lossless(array, kind):
        return None
    return array.astype(kind.numpy)


def _within(array: Array, bounds: tuple[int, int]) -> bool:
    return int(array.min()) >= bounds[0] and int(array.max()) <= bounds[1]


def _lossless(array: Array, kind: _Type) -> bool:
    assert kind.whole is not None, "only decimals are checked"
    if array.dtype.kind in "iu":
        return _within(array, (-kind.whole, kind.whole))
    limit = float(np.finfo(kind.numpy).max)
    return bool(((np.abs(array) <= limit) | ~np.isfinite(array)).all())


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape that the first elements promise."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(value: Any, level: int, shape: tuple[int, ...], dtype: str, values: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        values.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for member in value:
        _fill(member, level + 1, shape, dtype, values)


def _scalar(value: Any, dtype: str) -> Any:
    if isinstance(value, dict):
        if dtype != "string":
            raise _type_error(value, dtype)
        return decoded(value)
    kind = _type(dtype, value)
    if not kind.accepts(value):
        raise _type_error(value, dtype)
    if kind.whole is not None and not _is_lossless(value, kind):
        raise invalid(f"Cannot convert JSON value: {shown(value)} to {dtype} without loss of precision.")
    if kind.bounds == _INT32:
        return np.int64(value).astype(kind.numpy)
    return value.encode() if isinstance(value, str) else value


def _is_lossless(value: float, kind: _Type) -> bool:
    assert kind.whole is not None, "only decimals are checked"
    if isinstance(value, int):
        return abs(value) <= kind.whole
    return abs(value) <= float(np.finfo(kind.numpy).max) or not np.isfinite(value)


def decoded(value: Object) -> bytes:
    """Return the bytes of `{"b64": ...}`; raise StatusError."""
    if not is_binary(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"].strip(), validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def is_binary(value: Any) -> bool:
    """Return whether a value is an object like `{"b64": "aGk="}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_binary(value)


def _type(dtype: str, value: Any = None) -> _Type:
    if dtype not in _TYPES:
        raise StatusError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(value)} to type: {dtype}")
    return _TYPES[dtype]


def _type_error(value: Any, dtype: str) -> StatusError:
    return invalid(f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {dtype}")


def _format_error(value: Any, message: str) -> StatusError:
    return invalid(f"JSON Value: {shown(value)} {message}")


def json_type(value: Any) -> str:
    """Return RapidJSON's name of a value's type."""
    names = {bool: str(value), int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}
    return names.get(type(value), "Null")


def shown(value: Any) -> str:
    """Return a value as an error shows it."""
    return json.dumps(value, indent=4, ensure_ascii=False)[:_SHOWN_CHARACTERS]


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
