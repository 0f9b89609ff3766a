"""`code/inference.py` in the TensorFlow archive: adds PNG to SageMaker's TensorFlow Serving container.

Source of the signatures: the README of github.com/aws/sagemaker-tensorflow-serving-container.
The container returns a 500 with the message of any exception raised here. This file uses only the standard library.
"""

import base64
import json
import struct
from typing import Any

SIDE = 224
PNG = "image/png"
PNG_SIGNATURE = "serving_png"
PNG_INPUT = "png"
MASK_PNG_OUTPUT = "mask_png_bytes"
"""TensorFlow Serving's REST API encodes outputs named `*_bytes` in base64 (RESTful API, "Encoding binary values")."""
_MAGIC = b"\x89PNG\r\n\x1a\n"


def input_handler(data: Any, context: Any) -> str:
    """Return the body for TensorFlow Serving's REST API; raises ValueError for a PNG that is not 224 x 224 pixels."""
    content = data.read()
    if _media_type(context) != PNG:
        return str(content.decode("utf-8"))
    if content[:8] != _MAGIC or len(content) < 24:
        raise ValueError("the body is not a PNG; send one of 224 x 224 pixels, or JSON as application/json")
    # TensorFlow would decode an image of any size into memory.
    width, height = struct.unpack(">II", content[16:24])
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"the PNG is {width} x {height} pixels; send {SIDE} x {SIDE}")
    instance = {"b64": base64.b64encode(content).decode("ascii")}
    return json.dumps({"signature_name": PNG_SIGNATURE, "instances": [instance]})


def output_handler(response: Any, context: Any) -> tuple[bytes, str]:
    """Return the response's body and media type: PNG for a PNG request, otherwise TensorFlow Serving's response."""
    if response.status_code != 200:
        raise ValueError(response.content.decode("utf-8"))
    if _media_type(context) != PNG:
        return response.content, context.accept_header
    return base64.b64decode(json.loads(response.content)["predictions"][0]["b64"]), PNG


def _media_type(context: Any) -> str:
    return str(context.request_content_type).partition(";")[0].strip().lower()
