"""`code/inference.py` in the TensorFlow archive: lets SageMaker's TensorFlow Serving container take and give PNG.

Source of the two functions' form: the README of github.com/aws/sagemaker-tensorflow-serving-container.
The container answers 500 with the message of whatever is raised here. Needs nothing but the standard library.
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
"""TensorFlow Serving's REST API writes outputs of this ending in base64 (RESTful API, "Encoding binary values")."""
_MAGIC = b"\x89PNG\r\n\x1a\n"


def input_handler(data: Any, context: Any) -> str:
    """The body for TensorFlow Serving's REST API; raises ValueError for what is no PNG of 224 x 224 pixels."""
    content = data.read()
    if _media_type(context) != PNG:
        return str(content.decode("utf-8"))
    if content[:8] != _MAGIC or len(content) < 24:
        raise ValueError("the body is no PNG; send one of 224 x 224 pixels, or JSON as application/json")
    # TensorFlow would decode, and hold, whatever size the file announces.
    width, height = struct.unpack(">II", content[16:24])
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"the PNG is {width} x {height} pixels; send {SIDE} x {SIDE}")
    instance = {"b64": base64.b64encode(content).decode("ascii")}
    return json.dumps({"signature_name": PNG_SIGNATURE, "instances": [instance]})


def output_handler(response: Any, context: Any) -> tuple[bytes, str]:
    """The answer's body and media type: PNG for PNG, else what TensorFlow Serving answers."""
    if response.status_code != 200:
        raise ValueError(response.content.decode("utf-8"))
    if _media_type(context) != PNG:
        return response.content, context.accept_header
    return base64.b64decode(json.loads(response.content)["predictions"][0]["b64"]), PNG


def _media_type(context: Any) -> str:
    return str(context.request_content_type).partition(";")[0].strip().lower()
