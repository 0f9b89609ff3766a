"""A bad image, array or JSON body is an error of the client that says what to send instead."""

import logging
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from containers.saved_model.handler import CONTENT_TYPES, MAX_BATCH
from containers.saved_model.images import MAX_IMAGE_BYTES, PNG, decode_image
from containers.saved_model.npy import decode_npy
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from tests.unit.containers.saved_model_client import (
    JPEG,
    JPG,
    JSON,
    NPY,
    PICTURE,
    PLAIN,
    SIDE,
    announced,
    encoded,
    invoke,
    npy,
    picture,
    send,
)


def as_mode(mode: str) -> Image.Image:
    return Image.fromarray(PICTURE).convert(mode)


def npy_header(header: str, version: int = 1, data: bytes = b"") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


ANIMATED = encoded(Image.fromarray(PICTURE), save_all=True, append_images=[Image.fromarray(picture(1))])
MANY_SCANS = JPG + b"\xff\xda" * 70
NOT_A_NUMBER = np.full((SIDE, SIDE, 3), 0.5, np.float32)
NOT_A_NUMBER[3, 4, 1] = np.nan
INFINITE = np.full((2, SIDE, SIDE, 3), 0.5, np.float32)
INFINITE[1, 3, 4, 1] = -np.inf


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "message"),
    [
        (b"", PNG, 400, "empty_image", "no bytes"),
        (b"hello", PNG, 400, "not_an_image", "not a readable PNG"),
        (JPG, PNG, 400, "not_an_image", "not a readable PNG"),
        (PLAIN, JPEG, 400, "not_an_image", "not a readable JPEG"),
        (encoded(PICTURE, "GIF"), PNG, 400, "not_an_image", "not a readable PNG"),
        (PLAIN[: len(PLAIN) // 2], PNG, 400, "broken_image", "cannot be decoded"),
        (PLAIN[:30], PNG, 400, "not_an_image", "not a readable PNG"),
        (JPG[: len(JPG) // 2], JPEG, 400, "broken_image", "cannot be decoded"),
        (encoded(PICTURE[:100]), PNG, 400, "wrong_size", "224 x 100 pixels, this model takes only 224 x 224"),
        (encoded(PICTURE.repeat(2, 0)), PNG, 400, "wrong_size", "resize the image first"),
        (announced(10_000, 10_000), PNG, 400, "wrong_size", "10000 x 10000 pixels"),
        (announced(SIDE, SIDE, depth=16), PNG, 400, "wrong_depth", "16 bits a channel; send 8"),
        (announced(0, 0), PNG, 400, "not_an_image", "not a readable PNG"),
        (PLAIN + bytes(MAX_IMAGE_BYTES), PNG, 413, "image_too_large", f"at most {MAX_IMAGE_BYTES} are read"),
        (encoded(as_mode("RGBA")), PNG, 400, "wrong_colours", "has transparency"),
        (encoded(as_mode("LA")), PNG, 400, "wrong_colours", "has transparency"),
        (encoded(as_mode("P"), transparency=0), PNG, 400, "wrong_colours", "has transparency"),
        (encoded(as_mode("CMYK"), "JPEG"), JPEG, 400, "wrong_colours", "mode CMYK"),
        (ANIMATED, PNG, 400, "animated_image", "more than one frame"),
        (MANY_SCANS, JPEG, 400, "too_many_scans", "more than 64 scans"),
    ],
)
def test_a_bad_image_is_a_4xx_that_says_what_was_given_and_what_to_send(
    body: bytes, content_type: str, status: int, code: str, message: str
) -> None:
    response = invoke(body, content_type)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert message in error["message"]
    assert len(error["message"]) > 30
    assert "\n" not in error["message"]


def test_a_picture_of_100_megapixels_is_refused_by_its_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert invoke(announced(10_000, 10_000), PNG).json()["error"]["code"] == "wrong_size"
    huge = bytearray(JPG)
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    assert invoke(bytes(huge), JPEG).json()["error"]["code"] == "wrong_size"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "not_npy", "not a .npy file"),
        (b"PK\x03\x04 npz", "not_npy", "write it with numpy.save"),
        (PLAIN, "not_npy", "not a .npy file"),
        (npy(np.array([{}, "objects"], dtype=object), allow_pickle=True), "wrong_dtype", "pickled objects"),
        (npy(PICTURE.astype(np.float64)), "wrong_dtype", "'<f8'; save float32"),
        (npy(PICTURE.astype(">f4")), "wrong_dtype", "'>f4'"),
        (npy(PICTURE.astype(np.int64)), "wrong_dtype", "'<i8'"),
        (npy(np.zeros((2, 2), [("x", "<f4")])), "wrong_dtype", "'x'"),
        (npy(PICTURE[..., 0]), "wrong_shape", "shape (224, 224); send (224, 224, 3) or (images, 224, 224, 3)"),
        (npy(PICTURE.transpose(2, 0, 1)), "wrong_shape", "shape (3, 224, 224)"),
        (npy(PICTURE[np.newaxis, np.newaxis]), "wrong_shape", "shape (1, 1, 224, 224, 3)"),
        (npy(np.array(7, np.uint8)), "wrong_shape", "shape ()"),
        (npy(np.zeros((1,) * 30, np.uint8)), "wrong_shape", ", ...)"),
        (npy(np.zeros((0, SIDE, SIDE, 3), np.uint8)), "no_images", "send 1 to 8"),
        (npy(np.zeros((MAX_BATCH + 1, SIDE, SIDE, 3), np.uint8)), "too_many_images", "9 images; send at most 8"),
        (npy(PICTURE)[:-1], "wrong_length", "150527 follow"),
        (npy(PICTURE) + b"\0", "wrong_length", "150529 follow"),
        (npy(NOT_A_NUMBER), "out_of_range", "array[3][4][1] is nan; values must be in 0..1: send finite"),
        (npy(INFINITE), "out_of_range", "array[1][3][4][1] is -inf"),
        (npy(PICTURE.astype(np.float32)), "out_of_range", "divide by 255, or send uint8 as npy"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,)}"), "wrong_length", "0 follow"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-224,)}"), "broken_npy", "shape is (-224,)"),
        (npy_header("{'descr': '<f4', 'fortran_order': 1, 'shape': ()}"), "broken_npy", "its fortran_order is 1"),
        (npy_header("{'descr': '<f4', 'shape': ()}"), "broken_npy", "descr, fortran_order, shape"),
        (npy_header("__import__('os').getcwd()"), "broken_npy", "not a dictionary"),
        (npy_header("(" * 900), "broken_npy", "not a dictionary"),
        (npy_header("-" * 900 + "1"), "broken_npy", "not a dictionary"),
        (npy_header("\xe9"), "broken_npy", "not a dictionary"),
        (npy_header("{" + " " * 60_000 + "}"), "broken_npy", "60002 bytes, at most 1024"),
        (npy_header("{}", version=2) + b" " * 8, "broken_npy", "descr"),
        (npy_header("{}", version=9), "broken_npy", "its version is 9.0"),
    ],
)  # fmt: skip
def test_a_bad_array_is_a_400_that_says_what_was_given_and_what_to_send(body: bytes, code: str, message: str) -> None:
    response = invoke(body, NPY)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert message in response.json()["error"]["message"]


GREY = [[[0.5, 0.5, 0.5]] * SIDE] * SIDE


def grey_but(value: object) -> Any:
    return [[[0.5, 0.5, 0.5]] * SIDE] * 3 + [[[0.5, value, 0.5]] + [[0.5] * 3] * (SIDE - 1)] + GREY[4:]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "invalid_json", None),
        (b"hello", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b'{"instances": [[[', "invalid_json", None),
        (b"[" * 100_000, "invalid_field", None),
        (b'{"instances": ' + b"[" * 100_000 + b"}", "invalid_json", None),
        (b'{"instances": [[[NaN, 0, 0]]]}', "invalid_json", None),
        ([], "invalid_field", None),
        ({}, "invalid_field", None),
        ({"inputs": GREY}, "invalid_field", None),
        ({"instances": GREY, "signature_name": "other"}, "invalid_field", "signature_name"),
        ({"instances": []}, "no_images", None),
        ({"instances": 7}, "wrong_shape", "instances"),
        ({"instances": [1, 2]}, "wrong_shape", "instances"),
        ({"instances": [[0.5] * SIDE] * SIDE}, "wrong_shape", "instances"),
        ({"instances": [[[[[0.5]]]]]}, "wrong_shape", "instances"),
        ({"instances": GREY[:100]}, "invalid_field", "instances"),
        ({"instances": [GREY, GREY[:100]]}, "invalid_field", "instances[1]"),
        ({"instances": [[[0.5] * 3] * SIDE] * 223 + [[[0.5] * 3] * 9]}, "invalid_field", "instances[223]"),
        ({"instances": grey_but([0.5])}, "invalid_field", "instances[3][0][1]"),
        ({"instances": grey_but("0.5")}, "invalid_field", "instances[3][0][1]"),
        ({"instances": grey_but(None)}, "invalid_field", "instances[3][0][1]"),
        ({"instances": [[[0.5] * 4] * SIDE] * SIDE}, "invalid_field", "instances[0][0]"),
        ({"instances": grey_but(-0.1)}, "out_of_range", "instances[3][0][1]"),
        ({"instances": [GREY, grey_but(255)]}, "out_of_range", "instances[1][3][0][1]"),
        ({"instances": grey_but(1e300)}, "out_of_range", "instances[3][0][1]"),
    ],
)
def test_a_bad_json_body_is_a_400_that_names_field_and_fix(body: object, code: str, field: str | None) -> None:
    response = invoke(body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == code
    assert error.get("field") == field
    assert "224" in error["message"] or "0..1" in error["message"] or "send 1 to 8" in error["message"]


def test_too_many_images_in_json_are_a_400() -> None:
    numbers = ("[" + ",".join(["[" + ",".join(["[0,0,0]"] * SIDE) + "]"] * SIDE) + "]").encode()
    body = b'{"instances": [' + b",".join([numbers] * (MAX_BATCH + 1)) + b"]}"
    assert len(body) < MAX_BODY_BYTES
    assert invoke(body).json()["error"]["code"] == "too_many_images"


def test_a_body_over_sagemakers_limit_is_a_413() -> None:
    assert invoke(bytes(MAX_BODY_BYTES + 1), NPY).status_code == 413


def test_another_media_type_is_a_415_that_lists_the_known_ones() -> None:
    response = invoke(PLAIN, "image/webp")
    assert response.status_code == 415
    assert all(name in response.json()["error"]["message"] for name in CONTENT_TYPES)


def test_after_every_kind_of_bad_request_the_server_goes_on_and_no_body_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = b"secret words"
    bad = [
        (PLAIN[:100] + secret, PNG),
        (announced(10_000, 10_000), PNG),
        (secret, JPEG),
        (secret, NPY),
        (npy(NOT_A_NUMBER), NPY),
        (b'{"instances": "secret words"}', JSON),
    ]
    requests = [(body, {"content-type": kind}) for one in bad for body, kind in (one, (PLAIN, PNG))]
    with caplog.at_level(logging.DEBUG, logger="serving"):
        responses = send(*requests)
    assert [response.status_code for response in responses] == [400, 200] * len(bad)
    assert "secret" not in caplog.text
    assert "Traceback" not in "".join(response.text for response in responses[::2])


@settings(max_examples=150, deadline=None)
@given(st.integers(8, len(PLAIN) - 1), st.binary(min_size=1, max_size=8), st.booleans())
def test_a_damaged_png_is_an_image_or_an_error_of_the_client(place: int, damage: bytes, cut: bool) -> None:
    content = PLAIN[:place] + damage + (b"" if cut else PLAIN[place + len(damage) :])
    _decoded_or_refused(lambda: decode_image(content, PNG))


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 3000), st.binary(min_size=1, max_size=8))
def test_a_damaged_jpeg_is_an_image_or_an_error_of_the_client(place: int, damage: bytes) -> None:
    content = bytearray(JPG)
    content[place : place + len(damage)] = damage
    _decoded_or_refused(lambda: decode_image(bytes(content), JPEG))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 127), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_an_array_or_an_error_of_the_client(place: int, damage: bytes) -> None:
    content = bytearray(npy(np.zeros((2, 3), np.float32)))
    content[place : place + len(damage)] = damage
    _decoded_or_refused(lambda: decode_npy(bytes(content)))


def _decoded_or_refused(decode: Callable[[], NDArray[Any]]) -> None:
    try:
        decode()
    except ServingError as error:
        assert error.status in (400, 413)
