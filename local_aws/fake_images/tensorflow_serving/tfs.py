"""Conversion of a request to TensorFlow Serving's form, as SageMaker's container does it: attributes, paths, types.

Source: docker/build_artifacts/sagemaker/tensorflow-serving.js and tfs_utils.py of
aws/sagemaker-tensorflow-serving-container.
"""

import csv
import io
import re
from collections.abc import Mapping

import msgspec

JSON = "application/json"
JSON_LINES = ("application/jsons", "application/jsonlines")
CSV = "text/csv"
_ATTRIBUTE = re.compile(r"(tfs-[a-z\-]+)=([^,]+)")


def parse_attributes(header: str) -> dict[str, str]:
    """Return `tfs-model-name`, `tfs-model-version` and `tfs-method` from the custom attributes, if present."""
    return dict(_ATTRIBUTE.findall(header))


def predict_path(attributes: Mapping[str, str], default_model: str) -> str:
    """Return the REST API path; raise ValueError for an unsupported method."""
    method = attributes.get("tfs-method", "predict")
    if method != "predict":
        raise ValueError(f"tfs-method is {method!r}: this fake supports only predict")
    path = f"/v1/models/{attributes.get('tfs-model-name', default_model)}"
    if version := attributes.get("tfs-model-version"):
        path += f"/versions/{version}"
    return f"{path}:{method}"


def to_instances(body: bytes, content_type: str) -> bytes:
    """Convert a body to TensorFlow Serving's JSON; raise ValueError.

    JSON passes unchanged; JSON Lines and CSV become instances.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return body
    if kind in JSON_LINES:
        lines = [line for line in body.splitlines() if line.strip()]
        return b'{"instances": [' + b",".join(lines) + b"]}"
    if kind == CSV:
        try:
            rows = [[float(cell) for cell in row] for row in csv.reader(io.StringIO(body.decode())) if row]
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"invalid CSV: {error}") from error
        return msgspec.json.encode({"instances": rows})
    raise ValueError(f"Content-Type is {kind!r}: without an inference.py send {JSON}, {', '.join(JSON_LINES)} or {CSV}")
