"""Read and write arrays in NumPy's `.npy` format, without trusting their headers.

Source: the format's specification in `numpy.lib.format`.
"""

import ast
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError

NPY = "application/x-npy"
MAX_HEADER_BYTES = 1024
"""Longest header. NumPy's own for plain arrays have 118 bytes; a header is a Python literal, slow to parse if long."""
MAX_DIMENSIONS = 32
"""NumPy's limit is 64, and was 32 before 2.0."""
_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Size in bytes of the header's length field, by the format's major version."""
_DTYPES: dict[str, np.dtype[Any]] = {"<f4": np.dtype("<f4"), "|u1": np.dtype("u1")}
_KEYS = {"descr", "fortran_order", "shape"}


def decode_npy(body: bytes) -> NDArray[Any]:
    """Return the array as stored, float32 or uint8, of any shape; the array is a view of the body.

    Raises ServingError 400 for another dtype, pickled objects, and a wrong header or length.
    """
    header, offset = _header(body)
    name = header["descr"]
    if not isinstance(name, str) or name not in _DTYPES:
        given = "pickled objects" if name == "|O" else f"dtype {str(name)[:40]!r}"
        raise ServingError(
            400, "wrong_dtype", f"the array holds {given}; save float32 ('<f4', values 0..1) or uint8 ('|u1', 0..255)"
        )
    dtype, shape = _DTYPES[name], _shape(header["shape"])
    if not isinstance(header["fortran_order"], bool):
        raise _broken(f"its fortran_order is {str(header['fortran_order'])[:40]}")
    size = math.prod(shape) * dtype.itemsize
    if size != len(body) - offset:
        raise ServingError(
            400,
            "wrong_length",
            f"the header announces {str(size)[:20]} bytes of data, {len(body) - offset} follow; send the whole file",
        )
    order = "F" if header["fortran_order"] else "C"
    return np.frombuffer(body, dtype, offset=offset).reshape(shape, order=order)  # type: ignore[call-overload, no-any-return]


def encode_npy(array: NDArray[Any]) -> bytes:
    """Return an array in `.npy` format 1.0."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _header(body: bytes) -> tuple[dict[str, Any], int]:
    if not body.startswith(_MAGIC) or len(body) < len(_MAGIC) + 4:
        raise ServingError(
            400, "not_npy", r"the body is not a .npy file: it does not start with \x93NUMPY; write it with numpy.save"
        )
    width = _LENGTH_BYTES.get(body[6])
    if width is None or body[7]:
        raise _broken(f"its version is {body[6]}.{body[7]}")
    start = 8 + width
    length = int.from_bytes(body[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise _broken(f"it has {length} bytes, at most {MAX_HEADER_BYTES} are read")
    if start + length > len(body):
        raise _broken(f"it should have {length} bytes, but {max(0, len(body) - start)} follow")
    literal = body[start : start + length]
    try:
        # Python warns about some escapes and would log a part of the request; a valid header has none.
        header = ast.literal_eval(literal.decode("ascii").strip()) if b"\\" not in literal else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise _broken("it is not a dictionary") from None
    if not isinstance(header, dict) or set(header) != _KEYS:
        raise _broken(f"it must have the keys {', '.join(sorted(_KEYS))}")
    return header, start + length


def _shape(shape: object) -> tuple[int, ...]:
    """Return the header's shape after checking it; a wrong size that passes here fails the check of the length."""
    if not isinstance(shape, tuple):
        raise _broken(f"its shape is {str(shape)[:40]}")
    if len(shape) > MAX_DIMENSIONS:
        raise _broken(f"its shape has {len(shape)} dimensions, at most {MAX_DIMENSIONS} are read")
    for size in shape:
        # A bool is an int, but not a size.
        if type(size) is not int or size < 0:
            raise _broken(f"its shape is {str(shape)[:40]}")
    # NumPy limits the product of the nonzero dimensions, even for an empty array.
    if 0 in shape and math.prod(size for size in shape if size) > MAX_BODY_BYTES:
        raise _broken(f"its shape is {str(shape)[:40]}, which is too large for an empty array")
    return shape


def _broken(finding: str) -> ServingError:
    return ServingError(400, "broken_npy", f"the .npy header cannot be read: {finding}; write it with numpy.save")
