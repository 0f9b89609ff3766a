"""Arrays and images that are made to break the reader or to take memory: each is a 400 that says what is wrong."""

import io
import itertools
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from containers.saved_model.handler import MAX_BATCH, make_handler
from containers.saved_model.images import MAX_IMAGE_BYTES, PNG, open_image
from containers.saved_model.npy import MAX_DIMENSIONS, NPY, decode_npy
from containers.saved_model.signature import IMAGE_SIDE
from containers.serving.app import Answer, Invocation
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from tests.allocations import peak_bytes

JSON = "application/json"
SIDES = (IMAGE_SIDE, IMAGE_SIDE, 3)


class Copying:
    """A segmenter that answers each image's red channel."""

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert images.flags.c_contiguous, "the engine reads arrays in memory order"
        return images[..., :1].copy()


handle: Callable[[Invocation], Answer] = make_handler(Copying(), "int8")


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A file whose header is that text; length: what it says of the header instead of its length."""
    width = "<H" if version[0] == 1 else "<I"
    announced = struct.pack(width, len(header) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + announced + header.encode("latin-1") + data


def header(shape: object, descr: object = "<f4", order: object = False) -> str:
    return repr({"descr": descr, "fortran_order": order, "shape": shape})


def refusal(body: bytes, content_type: str = NPY) -> ServingError:
    with pytest.raises(ServingError) as refused:
        handle(Invocation(body, content_type))
    assert len(json.dumps(refused.value.body())) < 5000
    return refused.value


@pytest.mark.parametrize("descr", ["<f4", "|u1"])
@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize(
    ("shape", "code", "says"),
    [
        ((0,) * 70, "broken_npy", f"its shape has 70 dimensions, at most {MAX_DIMENSIONS} are read"),
        ((0,) * 33, "broken_npy", "its shape has 33 dimensions"),
        ((0,) * 32, "wrong_shape", "(0, 0, 0, 0, 0, 0, ...)"),
        ((10**300, 0), "broken_npy", "too large for an empty array"),
        ((0, 10**300), "broken_npy", "too large for an empty array"),
        ((2**62, 0, 2**62), "broken_npy", "too large for an empty array"),
        ((0, 2**31, 2**31, 2**31), "broken_npy", "too large for an empty array"),
        ((10**300,), "wrong_length", "the header announces"),
        ((10**100,) * 9, "wrong_length", "the header announces"),
        ((2**63,), "wrong_length", "the header announces"),
        ((-1,), "broken_npy", "its shape is (-1,)"),
        ((-1, -1), "broken_npy", "its shape is (-1, -1)"),
        ((-(10**300), 0), "broken_npy", "its shape is (-10000"),
        ((True, True), "broken_npy", "its shape is (True, True)"),
        ((False,), "broken_npy", "its shape is (False,)"),
        ((224.0, 224, 3), "broken_npy", "its shape is (224.0, 224, 3)"),
        (("224", 224, 3), "broken_npy", "its shape is ('224', 224, 3)"),
        ((None,), "broken_npy", "its shape is (None,)"),
        (((224,), 224), "broken_npy", "its shape is ((224,), 224)"),
        ((1j,), "broken_npy", "its shape is (1j,)"),
        ([224, 224, 3], "broken_npy", "its shape is [224, 224, 3]"),
        ({224}, "broken_npy", "its shape is {224}"),
        (224, "broken_npy", "its shape is 224"),
        (None, "broken_npy", "its shape is None"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_shape_that_no_image_has_is_a_400_that_names_it(
    shape: object, code: str, says: str, descr: str, order: bool
) -> None:
    error = refusal(npy(header(shape, descr, order)))
    assert (error.status, error.code) == (400, code)
    assert says in error.message


@pytest.mark.parametrize(
    ("descr", "says"),
    [
        ([("x", "<f4")], "dtype"), ([("x", "<f4", (2**40,))], "dtype"), ([], "dtype"), (("<f4", (2, 2)), "dtype"),
        ("|O", "pickled objects"), ("O", "dtype 'O'"), ("<f4,<f4", "dtype"), ("(99999999999,)<f4", "dtype"),
        ("<U999999999", "dtype"), ("|V0", "dtype"), ("<M8[ns]", "dtype"), ("f4" * 100, "dtype"), (b"<f4", "dtype"),
        (None, "dtype"), (4, "dtype"), ({"names": ["x"]}, "dtype"), ("<f4\n", "broken"),
    ],
    ids=repr,
)  # fmt: skip
def test_another_dtype_is_a_400_and_is_never_made(descr: object, says: str) -> None:
    error = refusal(npy(header(SIDES, descr)))
    assert error.status == 400
    assert error.code in ("wrong_dtype", "broken_npy")
    assert says in error.message or error.code == "broken_npy"


@pytest.mark.parametrize("order", [0, 1, None, "C", "False", [], 0.0])
def test_a_memory_order_that_is_no_truth_value_is_a_400(order: object) -> None:
    error = refusal(npy(header(SIDES, "|u1", order), bytes(3 * IMAGE_SIDE**2)))
    assert error.code == "broken_npy"
    assert "its fortran_order is" in error.message


@pytest.mark.parametrize(
    "body",
    [
        npy(header(SIDES), length=0),
        npy(header(SIDES), length=1024),
        npy(header(SIDES), length=65_535),
        npy(header(SIDES), version=(2, 0), length=2**32 - 1),
        npy(header(SIDES), version=(3, 0), length=2**31),
        npy(header(SIDES), version=(1, 1)),
        npy(header(SIDES), version=(0, 0)),
        npy(header(SIDES), version=(4, 0)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), 'shape': (0,) * 70}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10 ** 300, 0)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "0, " * 250 + ")}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 900 + ", 0)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 90 + ")" * 90 + "}"),
        npy("{'descr': '\\d', 'fortran_order': False, 'shape': ()}"),
        npy("{'descr': '\\x3cf4', 'fortran_order': False, 'shape': ()}"),
        npy("{{}: 1}"),
        npy("{'descr', 'fortran_order', 'shape'}"),
        npy("\0"),
        npy("{'shape': ()}\xff", version=(3, 0)),
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x02\x00\x00\x00",
        b"\x93NUMPY\x02\x00\x00\x00\x00\x00",
    ],
    ids=itertools.count(),
)
def test_a_header_that_lies_or_is_cut_is_a_400(body: bytes) -> None:
    error = refusal(body)
    assert (error.status, error.code) in [(400, code) for code in ("broken_npy", "not_npy", "wrong_length")]
    assert error.message.endswith("numpy.save") or "send the whole file" in error.message


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_version_and_memory_order_of_an_image_is_read_alike(
    version: tuple[int, int], order: Any, dtype: Any
) -> None:
    image = (np.arange(np.prod(SIDES)).reshape(SIDES) % 2).astype(dtype)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(image, order=order), version=version)
    answer = decode_npy(handle(Invocation(stream.getvalue(), NPY)).body)
    assert (answer == image[..., :1] / np.float32(255 if dtype == np.uint8 else 1)).all()


SHAPES = st.lists(
    st.one_of(
        st.integers(-3, 300), st.sampled_from([0, 2**31, 2**63, 10**30, -(2**63), True, 224, 3]), st.floats(), st.none()
    ),
    max_size=80,
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(SHAPES, st.sampled_from(["<f4", "|u1"]), st.booleans(), st.integers(1, 3), st.binary(max_size=64))
def test_any_shape_is_an_array_or_a_400(shape: list[Any], descr: str, order: bool, version: int, data: bytes) -> None:
    try:
        array = decode_npy(npy(header(tuple(shape), descr, order), data, (version, 0)))
    except ServingError as error:
        assert error.status == 400
    else:
        assert array.shape == tuple(shape)


GREY = b"[0.5,0.5,0.5]"
ROW = b"[" + b",".join([GREY] * IMAGE_SIDE) + b"]"
IMAGE = b"[" + b",".join([ROW] * IMAGE_SIDE) + b"]"
SHORT_IMAGE = b"[" + b",".join([b"[" + b",".join([b"[0,0,0]"] * IMAGE_SIDE) + b"]"] * IMAGE_SIDE) + b"]"


def instances(content: bytes) -> bytes:
    return b'{"instances":' + content + b"}"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[[[" + b",".join([b"[0,0,0]"] * 700_000) + b"]]]", "invalid_field"),
        (b"[[" + b",".join([b"[0,0,0]"] * 700_000) + b"]]", "invalid_field"),
        (b"[" + b",".join([b"[[0,0,0]]"] * 500_000) + b"]", "invalid_field"),
        (b"[" + b",".join([b"[[[0,0,0]]]"] * 400_000) + b"]", "too_many_images"),
        (b"[" + b",".join([SHORT_IMAGE] * 9) + b"]", "too_many_images"),
        (b"[" + SHORT_IMAGE + b"," + b",".join([b"[]"] * 1_000_000) + b"]", "invalid_field"),
        (b"[" + SHORT_IMAGE + b"," + b",".join([b"1"] * 1_000_000) + b"]", "invalid_field"),
        (b"[" + SHORT_IMAGE + b"," + b"[" * 500 + b"]" * 500 + b"]", "too_many_images"),
        (b"[[[" + b"0," * 2_000_000 + b"0]]]", "invalid_field"),
        (b"[[[[" + b"0," * 2_000_000 + b"0]]]]", "invalid_field"),
        (b"[" + b"[]," * 1_900_000 + b"[]]", "wrong_shape"),
        (b"[" * 3_000_000 + b"]" * 3_000_000, "invalid_json"),
        (b"[[[" + b"9" * 5_000_000 + b",0,0]]]", "invalid_field"),
        (b"[[[1e999999999,0,0]]]", "invalid_json"),
        (b"[[[-1" + b"0" * 400 + b",0,0]]]", "invalid_json"),
        (b'"' + b"x" * 6_000_000 + b'"', "wrong_shape"),
        (b" " * 6_000_000 + b"[]", "no_images"),
        (b'[[[["]]]",0,0]]]]', "invalid_field"),
    ],
    ids=[
        "a row of pixels", "a row of pixels, no batch", "rows", "images", "nine images", "empty images", "numbers",
        "nested", "a pixel of numbers", "a pixel of numbers in a batch", "empty arrays", "nested a lot", "digits",
        "exponent", "integer", "text", "blanks", "brackets in a text",
    ],
)  # fmt: skip
def test_json_of_the_largest_size_is_refused_within_a_small_multiple_of_it(content: bytes, code: str) -> None:
    body = instances(content)
    assert len(body) <= MAX_BODY_BYTES
    errors: list[ServingError] = []
    peak = peak_bytes(lambda: errors.append(refusal(body, JSON)))
    assert errors[0].status == 400
    assert errors[0].code in (code, "invalid_field", "invalid_json", "out_of_range")
    assert peak < 4 * MAX_BODY_BYTES


def test_the_largest_batch_in_json_is_answered_within_a_small_multiple_of_a_body() -> None:
    body = instances(b"[" + b" ,\n".join([SHORT_IMAGE] * MAX_BATCH) + b"]")
    answers: list[Answer] = []
    peak = peak_bytes(lambda: answers.append(handle(Invocation(body, JSON))))
    assert np.array(json.loads(answers[0].body)["predictions"]).shape == (MAX_BATCH, IMAGE_SIDE, IMAGE_SIDE, 1)
    assert len(answers[0].body) <= MAX_BODY_BYTES
    # Besides the floats, each level of the masks' text is looked up with an index of eight bytes.
    assert peak < 6 * MAX_BODY_BYTES


@pytest.mark.parametrize("array", [np.full((8, *SIDES), np.nan, np.float32), np.full(SIDES, 7, np.float32)])
def test_values_out_of_range_everywhere_take_about_the_memory_of_the_array(array: NDArray[np.float32]) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    errors: list[ServingError] = []
    peak = peak_bytes(lambda: errors.append(refusal(stream.getvalue())))
    assert errors[0].code == "out_of_range"
    assert peak < 2 * array.nbytes + 2**20


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros(SIDES, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def with_chunks(*chunks: bytes) -> bytes:
    """A right picture with other chunks behind its header."""
    whole = picture()
    return whole[:33] + b"".join(chunks) + whole[33:]


BOMB = zlib.compress(bytes(1_000_000), 9)


@pytest.mark.parametrize(
    "content",
    [
        with_chunks(*[chunk(b"zTXt", b"%d\0\0" % number + BOMB) for number in range(60)]),
        with_chunks(*[chunk(b"iTXt", b"%d\0\1\0\0\0" % number + BOMB) for number in range(60)]),
        with_chunks(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(500_000_000), 9))),
        with_chunks(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(500_000_000), 9))),
        with_chunks(chunk(b"IDAT", zlib.compress(bytes(500_000_000), 9))),
    ],
    ids=["texts", "international texts", "one text", "colour profile", "pixels"],
)
def test_what_is_packed_in_a_png_is_not_unpacked_beyond_what_an_image_needs(content: bytes) -> None:
    assert len(content) < MAX_IMAGE_BYTES

    def opened() -> None:
        try:
            open_image(content, PNG)
        except ServingError as error:
            assert error.status == 400

    assert peak_bytes(opened) < 8 * 2**20
