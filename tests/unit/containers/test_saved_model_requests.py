"""What the saved_model image answers, through its ASGI application and a stand-in model."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from containers.saved_model.handler import MAX_BATCH
from containers.saved_model.images import PNG, binary_mask
from containers.saved_model.npy import decode_npy, encode_npy
from containers.serving.contract import MAX_BODY_BYTES
from tests.unit.containers.saved_model_client import (
    JPEG,
    JPG,
    JSON,
    NPY,
    PICTURE,
    SIDE,
    TRUTH,
    NoNumbers,
    Pixels,
    encoded,
    invoke,
    npy,
    picture,
)


def instances(pixels: Pixels) -> Any:
    """Numbers of 0 to 1 with two decimals, nested as JSON wants them."""
    return (pixels / 255).round(2).tolist()


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


@pytest.mark.parametrize("accept", [JSON, NPY, PNG])
def test_probabilities_that_are_not_numbers_are_a_500_in_every_format(accept: str) -> None:
    response = invoke(npy(PICTURE), NPY, accept, NoNumbers())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "invalid_output"
    assert "not finite" in response.json()["error"]["message"]


def test_the_threshold_belongs_to_the_foreground() -> None:
    assert binary_mask(np.array([0.4999, 0.5, 0.5001], np.float32)).tolist() == [0, 255, 255]


def test_the_largest_batch_fits_sagemakers_limit_in_every_format() -> None:
    batch = npy(np.stack([picture(seed) for seed in range(MAX_BATCH)]).astype(np.float32) / np.float32(255))
    assert len(batch) < MAX_BODY_BYTES
    for accept in (JSON, NPY):
        response = invoke(batch, NPY, accept)
        assert response.status_code == 200
        assert len(response.content) < MAX_BODY_BYTES


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
