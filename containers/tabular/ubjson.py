"""Read the part of UBJSON that XGBoost writes, from untrusted bytes.

Source: draft 12 of ubjson.org, with big-endian numbers, counted containers and typed arrays. No library is used:
treelite's reader ends the process on some damaged files, and py-ubjson has had no release since 2020.
"""

import re
import struct
from typing import Any

import numpy as np

_MAX_DEPTH = 32
MAX_VALUES = 2**20
"""Most values in one document, counting a typed array as one. XGBoost writes 21 per tree, so 50,000 trees fit."""
_VALUE_SHARE = 24
"""Fewest bytes per value: XGBoost's files have 33 or more. A `[]` takes 2 bytes in a file and 64 in memory."""
_SPARE_VALUES = 4096
_MAX_NO_OPS = 4096
_NO_OPS = re.compile(rb"N*")
_INTEGERS = {b"i": ("b", 1), b"U": ("B", 1), b"I": (">h", 2), b"l": (">i", 4), b"L": (">q", 8)}
_NUMBERS = {**_INTEGERS, b"d": (">f", 4), b"D": (">d", 8)}
_DTYPES = {
    marker: np.dtype(name)
    for marker, name in {
        b"i": "i1", b"U": "u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8",
    }.items()
}  # fmt: skip
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}


class UbjsonError(ValueError):
    """Bytes that are not UBJSON; the message names the byte."""


def loads(data: bytes) -> Any:
    """Return the document as dicts, lists, numbers and strings; arrays of one number type become NumPy arrays."""
    reader = _Reader(data)
    try:
        return reader.value(reader.marker(), 0)
    except (struct.error, UnicodeDecodeError) as error:
        raise UbjsonError(f"byte {reader.position}: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0
        self._values_left = min(MAX_VALUES, len(data) // _VALUE_SHARE + _SPARE_VALUES)
        self._no_ops_left = _MAX_NO_OPS

    def marker(self) -> bytes:
        """Return the next byte that is not a no-op."""
        marker = self._take(1)
        if marker != b"N":
            return marker
        no_ops = _NO_OPS.match(self._data, self.position)
        assert no_ops is not None
        self._no_ops_left -= 1 + no_ops.end() - self.position
        if self._no_ops_left < 0:
            raise UbjsonError(f"byte {self.position}: more than {_MAX_NO_OPS} no-ops; XGBoost writes none")
        self.position = no_ops.end()
        return self._take(1)

    def value(self, marker: bytes, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise UbjsonError(f"byte {self.position}: more values than a model of {len(self._data)} bytes has")
        if depth > _MAX_DEPTH:
            raise UbjsonError(f"byte {self.position}: nested deeper than {_MAX_DEPTH}")
        if marker in _NUMBERS:
            form, size = _NUMBERS[marker]
            return struct.unpack(form, self._take(size))[0]
        if marker == b"S":
            return self._string()
        if marker == b"C":
            return self._take(1).decode("ascii")
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == b"[":
            return self._array(depth)
        if marker == b"{":
            return self._object(depth)
        raise UbjsonError(f"byte {self.position - 1}: {marker!r} is not a UBJSON type")

    def _array(self, depth: int) -> Any:
        kind, count, marker = self._header()
        if kind is not None and count is not None and kind in _DTYPES:
            dtype = _DTYPES[kind]
            self._check_room(count * dtype.itemsize)
            # A view, not a copy. np.frombuffer rejects an offset at the end of the data.
            array = np.frombuffer(self._data, dtype, count, self.position) if count else np.empty(0, dtype)
            self.position += count * dtype.itemsize
            return array
        values = []
        if count is not None:
            # An element takes at least one byte, so a larger count is damage, not a large array.
            self._check_room(count)
            for _ in range(count):
                values.append(self.value(kind or self.marker(), depth + 1))
            return values
        while marker != b"]":
            values.append(self.value(marker, depth + 1))
            marker = self.marker()
        return values

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count, marker = self._header()
        members: dict[str, Any] = {}
        if count is not None:
            self._check_room(count)
            for _ in range(count):
                name = self._string()
                members[name] = self.value(kind or self.marker(), depth + 1)
            return members
        while marker != b"}":
            name = self._text(self._length(marker))
            members[name] = self.value(self.marker(), depth + 1)
            marker = self.marker()
        return members

    def _header(self) -> tuple[bytes | None, int | None, bytes]:
        """Return the element type and count, or None if not given, and the marker after the opening bracket."""
        marker = self.marker()
        kind = None
        if marker == b"$":
            kind, marker = self._take(1), self.marker()
            if marker != b"#":
                raise UbjsonError(f"byte {self.position - 1}: a typed container needs a count")
            if kind in _CONSTANTS or kind == b"N":
                # Nested, such arrays would expand a file of kilobytes into gigabytes.
                raise UbjsonError(f"byte {self.position - 2}: elements of {kind!r} take no bytes")
        if marker != b"#":
            return None, None, marker
        return kind, self._length(self.marker()), marker

    def _string(self) -> str:
        return self._text(self._length(self.marker()))

    def _length(self, marker: bytes) -> int:
        if marker not in _INTEGERS:
            raise UbjsonError(f"byte {self.position - 1}: {marker!r} is not a length")
        form, size = _INTEGERS[marker]
        length: int = struct.unpack(form, self._take(size))[0]
        if length < 0:
            raise UbjsonError(f"byte {self.position - size}: the length is {length}")
        return length

    def _text(self, length: int) -> str:
        return self._take(length).decode()

    def _take(self, size: int) -> bytes:
        self._check_room(size)
        self.position += size
        return self._data[self.position - size : self.position]

    def _check_room(self, size: int) -> None:
        if size > len(self._data) - self.position:
            raise UbjsonError(f"byte {self.position}: {size} more bytes are needed, but the file ends")
