"""What the saved_model image answers, through its ASGI application and a stand-in model."""

import asyncio
import io
import json
import logging
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from containers.saved_model.handler import CONTENT_TYPES, MAX_BATCH, make_handler
from containers.saved_model.images import MAX_IMAGE_BYTES, PNG, binary_mask, decode_image
from containers.saved_model.npy import decode_npy, encode_npy
from containers.serving.app import ServingOptions, create_app
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError

JSON, NPY, JPEG = "application/json", "application/x-npy", "image/jpeg"
SIDE = 224
Pixels = NDArray[np.uint8]


class BrightIsForeground:
    """A model whose probability is each pixel's brightness."""

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert images.min() >= 0
        assert images.max() <= 1
        brightness: NDArray[np.float32] = images.mean(axis=-1, keepdims=True, dtype=np.float32)
        return brightness


def picture(seed: int = 0) -> Pixels:
    """Squares of 16 pixels, each dark or bright."""
    squares = np.random.default_rng(seed).choice(np.array([40, 220], np.uint8), (14, 14, 1))
    return squares.repeat(16, 0).repeat(16, 1).repeat(3, 2)


PICTURE = picture()
TRUTH = np.where(PICTURE[..., 0] > 127, 255, 0).astype(np.uint8)


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(stream, kind, **options)
    return stream.getvalue()


def as_mode(mode: str) -> Image.Image:
    return Image.fromarray(PICTURE).convert(mode)


def announced(width: int, height: int, *, depth: int = 8) -> bytes:
    """A PNG that says it has that size and has next to no data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def instances(pixels: Pixels) -> Any:
    """Numbers of 0 to 1 with two decimals, nested as JSON wants them."""
    return (pixels / 255).round(2).tolist()


def npy(array: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_header(header: str, version: int = 1, data: bytes = b"") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def send(*requests: tuple[bytes, dict[str, str]]) -> list[httpx.Response]:
    app = create_app(make_handler(BrightIsForeground(), "int8"), ServingOptions(content_types=CONTENT_TYPES))

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return [await client.post("/invocations", content=body, headers=headers) for body, headers in requests]

    return asyncio.run(go())


def invoke(body: bytes | object, content_type: str = JSON, accept: str = "*/*") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send((content, {"content-type": content_type, "accept": accept}))[0]


def mask_of(response: httpx.Response) -> Pixels:
    assert response.status_code == 200, response.text
    with Image.open(io.BytesIO(response.content), formats=["PNG"]) as image:
        assert image.mode == "L"
        return np.asarray(image)


def array_of(response: httpx.Response) -> NDArray[Any]:
    assert response.status_code == 200, response.text
    array: NDArray[Any] = np.load(io.BytesIO(response.content), allow_pickle=False)
    return array


def test_a_png_in_a_black_and_white_png_out() -> None:
    response = invoke(encoded(PICTURE), PNG)
    assert response.headers["content-type"] == PNG
    assert (mask_of(response) == TRUTH).all()


def test_a_jpeg_in_a_png_out_and_edges_are_all_that_its_loss_may_move() -> None:
    assert (mask_of(invoke(encoded(PICTURE, "JPEG", quality=95), JPEG)) == TRUTH).mean() > 0.99


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_black_and_white_and_palette_pngs_are_colour_images_too(mode: str) -> None:
    image = Image.fromarray(TRUTH).convert(mode)
    assert (mask_of(invoke(encoded(image), PNG)) == TRUTH).all()


def test_an_array_of_one_image_is_answered_by_one_mask_and_a_batch_by_a_batch() -> None:
    one = array_of(invoke(npy(PICTURE), NPY))
    two = array_of(invoke(npy(np.stack([PICTURE, picture(1)])), NPY))
    assert one.shape == (SIDE, SIDE, 1)
    assert one.dtype == np.float32
    assert two.shape == (2, SIDE, SIDE, 1)
    assert (two[0] == one).all()
    assert np.abs(one[..., 0] - PICTURE[..., 0] / 255).max() < 1e-6


def test_bytes_of_0_to_255_and_floats_of_0_to_1_are_the_same_image_in_either_memory_order() -> None:
    floats = (PICTURE / 255).astype(np.float32)
    answers = [array_of(invoke(npy(array), NPY)) for array in (PICTURE, floats, np.asfortranarray(floats))]
    assert np.abs(answers[1] - answers[0]).max() < 1e-6
    assert (answers[1] == answers[2]).all()


def test_json_in_json_out_in_the_shape_of_tensorflow_serving() -> None:
    response = invoke({"signature_name": "serving_default", "instances": [instances(PICTURE), instances(picture(1))]})
    assert response.headers["content-type"] == JSON
    assert list(response.json()) == ["predictions"]
    predictions = np.array(response.json()["predictions"])
    assert predictions.shape == (2, SIDE, SIDE, 1)
    assert np.abs(predictions[0, ..., 0] - (PICTURE[..., 0] / 255).round(2)).max() < 1e-4
    alone = np.array(invoke({"instances": instances(PICTURE)}).json()["predictions"])
    assert (alone == predictions[0]).all()


@pytest.mark.parametrize("value", [0, 0.0, 1, 1.0, 0.00004, 0.99999])
def test_probabilities_in_json_are_numbers_of_four_decimals(value: float) -> None:
    image = np.full((SIDE, SIDE, 3), value).tolist()
    response = invoke({"instances": image})
    assert f"[{value:.4f}]".encode() in response.content
    assert np.array(response.json()["predictions"]).shape == (SIDE, SIDE, 1)


@pytest.mark.parametrize(
    ("content_type", "accept", "answered"),
    [
        (PNG, "*/*", PNG),
        (JPEG, "", PNG),
        (NPY, "*/*", NPY),
        (JSON, "*/*", JSON),
        (PNG, "application/json", JSON),
        (PNG, "application/x-npy", NPY),
        (JSON, "image/png", PNG),
        (NPY, "text/html, image/*;q=0.8", PNG),
        (PNG, "Application/JSON; charset=utf-8", JSON),
    ],
)
def test_the_answers_type_follows_accept_and_else_the_request(content_type: str, accept: str, answered: str) -> None:
    bodies: dict[str, bytes | object] = {
        PNG: encoded(PICTURE),
        JPEG: JPG,
        NPY: npy(PICTURE),
        JSON: {"instances": instances(PICTURE)},
    }
    response = invoke(bodies[content_type], content_type, accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == answered
    assert response.headers["x-amzn-sagemaker-custom-attributes"] == "precision=int8"


def test_npy_answers_hold_probabilities_or_where_asked_a_mask_of_bytes() -> None:
    assert array_of(invoke(encoded(PICTURE), PNG, NPY)).dtype == np.float32
    mask = array_of(invoke(encoded(PICTURE), PNG, "application/x-npy; dtype=uint8"))
    assert mask.dtype == np.uint8
    assert (mask[..., 0] == TRUTH).all()


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "application/x-npy; dtype=float64"])
def test_an_answer_that_cannot_be_given_is_a_406_that_lists_those_that_can(accept: str) -> None:
    response = invoke(encoded(PICTURE), PNG, accept)
    assert response.status_code == 406
    assert "application/x-npy" in response.json()["error"]["message"]


def test_a_png_holds_one_mask() -> None:
    two = npy(np.stack([PICTURE, PICTURE]))
    response = invoke(two, NPY, PNG)
    assert response.status_code == 406
    assert "has 2 images" in response.json()["error"]["message"]
    assert (mask_of(invoke(npy(PICTURE[np.newaxis]), NPY, PNG)) == TRUTH).all()


def test_the_threshold_belongs_to_the_foreground() -> None:
    assert binary_mask(np.array([0.4999, 0.5, 0.5001], np.float32)).tolist() == [0, 255, 255]


PLAIN = encoded(PICTURE)
JPG = encoded(PICTURE, "JPEG")
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
        (encoded(PICTURE[:100]), PNG, 400, "wrong_size", "224 x 100 pixels, this model takes 224 x 224"),
        (encoded(PICTURE.repeat(2, 0)), PNG, 400, "wrong_size", "resizes nothing"),
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
    def decode(self: object) -> None:
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
        (b"", "not_npy", "no .npy file"),
        (b"PK\x03\x04 npz", "not_npy", "write it with numpy.save"),
        (PLAIN, "not_npy", "no .npy file"),
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
        (npy(PICTURE)[:-1], "wrong_length", "150527 follow it"),
        (npy(PICTURE) + b"\0", "wrong_length", "150529 follow it"),
        (npy(NOT_A_NUMBER), "out_of_range", "array[3][4][1] is nan; values lie in 0..1: send finite"),
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


def test_the_largest_batch_fits_sagemakers_limit_in_every_format() -> None:
    batch = npy(np.stack([picture(seed) for seed in range(MAX_BATCH)]).astype(np.float32) / np.float32(255))
    assert len(batch) < MAX_BODY_BYTES
    for accept in (JSON, NPY):
        response = invoke(batch, NPY, accept)
        assert response.status_code == 200
        assert len(response.content) < MAX_BODY_BYTES


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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from([np.dtype("<f4"), np.dtype("u1")]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_what_numpy_saves_is_read_as_numpy_reads_it(
    shape: list[int], dtype: np.dtype[Any], fortran: bool, seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)
    array = np.asfortranarray(array) if fortran else array
    found = decode_npy(npy(array))
    assert (found.dtype, found.shape) == (dtype, array.shape)
    assert (found == array).all()
    assert (np.load(io.BytesIO(encode_npy(array)), allow_pickle=False) == array).all()
