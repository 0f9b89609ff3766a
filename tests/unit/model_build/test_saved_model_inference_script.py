"""The script in a TensorFlow Serving archive turns a PNG into a request and the response into a mask."""

import base64
import io
import json
import types

import pytest
from PIL import Image

from model_build.saved_model import inference

SIDE = 224


def context(content_type: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(request_content_type=content_type, accept_header="application/json")


def response(status: int, body: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(status_code=status, content=json.dumps(body).encode())


def png(side: int = SIDE) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def test_the_script_hands_a_png_to_tensorflow_serving_and_its_mask_back() -> None:
    body = json.loads(inference.input_handler(io.BytesIO(png()), context("image/png; a=b")))
    assert body["signature_name"] == "serving_png"
    assert base64.b64decode(body["instances"][0]["b64"]) == png()
    answer = response(200, {"predictions": [{"b64": base64.b64encode(b"mask").decode()}]})
    assert inference.output_handler(answer, context("image/png")) == (b"mask", "image/png")


def test_the_script_leaves_json_alone() -> None:
    assert inference.input_handler(io.BytesIO(b'{"instances": []}'), context("application/json")) == '{"instances": []}'
    answer = response(200, {"predictions": []})
    assert inference.output_handler(answer, context("application/json")) == (answer.content, "application/json")


@pytest.mark.parametrize(
    ("body", "message"), [(b"hello", "is not a PNG"), (b"", "is not a PNG"), (png(100), "100 x 100")]
)
def test_the_script_refuses_what_tensorflow_would_decode_whatever_its_size(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inference.input_handler(io.BytesIO(body), context("image/png"))


def test_the_script_passes_an_error_of_tensorflow_serving_on() -> None:
    with pytest.raises(ValueError, match="Servable not found"):
        inference.output_handler(response(404, {"error": "Servable not found"}), context("image/png"))
