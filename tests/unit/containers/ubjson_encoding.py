"""UBJSON as XGBoost writes it, for tests that read it."""

import struct
from typing import Any

import numpy as np


def encoded(value: Any) -> bytes:
    """UBJSON as XGBoost writes it, of JSON values and NumPy arrays."""
    match value:
        case dict():
            members = b"".join(encoded(name)[1:] + encoded(member) for name, member in value.items())
            return b"{" + members + b"}"
        case list():
            return b"[#" + encoded(len(value)) + b"".join(map(encoded, value))
        case str():
            return b"S" + encoded(len(value.encode())) + value.encode()
        case bool() | None:
            return {True: b"T", False: b"F", None: b"Z"}[value]
        case int():
            return b"L" + struct.pack(">q", value)
        case float():
            return b"D" + struct.pack(">d", value)
        case np.ndarray():
            marker = {"u1": b"U", "i4": b"l", "i8": b"L", "f4": b"d", "f8": b"D"}[value.dtype.str[1:]]
            big_endian = value.astype(value.dtype.newbyteorder(">"))
            return b"[$" + marker + b"#" + encoded(len(value)) + big_endian.tobytes()
    raise TypeError(value)
