"""UBJSON is read type by type, and what is not UBJSON is an error that names the byte."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.tabular import ubjson
from containers.tabular.ubjson import UbjsonError
from tests.unit.containers.ubjson_encoding import encoded


def test_arrays_of_nothing_cannot_multiply_a_small_file_into_a_large_memory() -> None:
    inner = b"[$Z#l" + struct.pack(">i", 1000)
    bomb = b"[" + inner * 1000 + b"]"
    with pytest.raises(UbjsonError, match="elements of b'Z' take no bytes"):
        ubjson.loads(bomb)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"i\xff", -1), (b"U\xff", 255), (b"I\xff\xfe", -2), (b"l\0\0\1\0", 256), (b"L" + b"\xff" * 8, -1),
        (b"d\x3f\x80\0\0", 1.0), (b"D\xbf\xf0\0\0\0\0\0\0", -1.0), (b"Z", None), (b"T", True), (b"F", False),
        (b"Ca", "a"), (b"SU\x02\xc3\xbc", "\u00fc"), (b"NNNT", True), (b"[]", []), (b"[TNZ]", [True, None]),
        (b"[#U\x02TZ", [True, None]), (b"[#U\x00", []), (b"{}", {}), (b"{U\x01aT}", {"a": True}),
        (b"{#U\x01U\x01aT", {"a": True}), (b"{$U#U\x02U\x01a\x07U\x01b\x08", {"a": 7, "b": 8}),
        (b"[$S#U\x02U\x01aU\x01b", ["a", "b"]), (b"[$[#U\x02]T]", [[], [True]]),
    ],
    ids=repr,
)  # fmt: skip
def test_ubjson_reads_every_type(data: bytes, value: Any) -> None:
    assert ubjson.loads(data) == value


@pytest.mark.parametrize(
    ("marker", "numbers"),
    [
        (b"i", np.array([-128, 127], "i1")),
        (b"U", np.array([0, 255], "u1")),
        (b"I", np.array([-(2**15), 1], ">i2")),
        (b"l", np.array([-(2**31), 1], ">i4")),
        (b"L", np.array([-(2**63), 1], ">i8")),
        (b"d", np.array([1.5, -np.inf], ">f4")),
        (b"D", np.array([1.5, 1e300], ">f8")),
    ],
)
def test_ubjson_reads_typed_arrays_of_every_number(marker: bytes, numbers: Any) -> None:
    read = ubjson.loads(b"[$" + marker + b"#U\x02" + numbers.tobytes())
    assert read.tolist() == numbers.tolist()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=12,
    )
)
def test_ubjson_reads_back_any_document(value: Any) -> None:
    assert ubjson.loads(encoded(value)) == value


@settings(derandomize=True, max_examples=500, deadline=None)
@given(
    st.binary(max_size=40) | st.lists(st.sampled_from([b"[", b"{", b"$", b"#", b"U", b"\1", b"Z", b"]", b"}", b"l"]))
)
def test_any_bytes_are_ubjson_or_an_error_that_names_the_byte(data: bytes | list[bytes]) -> None:
    try:
        ubjson.loads(data if isinstance(data, bytes) else b"".join(data))
    except UbjsonError as error:
        assert str(error).startswith("byte ")
