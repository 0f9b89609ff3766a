"""SageMaker's custom attributes that choose a model, a version and a method of TensorFlow Serving.

Source: docker/build_artifacts/sagemaker/tfs_utils.py of aws/sagemaker-tensorflow-serving-container.
"""

import re
from collections.abc import Mapping

ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"
_ATTRIBUTE = re.compile(r"(tfs-[a-z\-]+)=([^,]+)")


def parse_attributes(header: str) -> dict[str, str]:
    """Return `tfs-model-name`, `tfs-model-version` and `tfs-method` from the custom attributes, if present."""
    return dict(_ATTRIBUTE.findall(header))


def api_path(attributes: Mapping[str, str], default_model: str) -> str:
    """Return the path of TensorFlow Serving's RESTful API."""
    path = f"/v1/models/{attributes.get('tfs-model-name', default_model)}"
    if version := attributes.get("tfs-model-version"):
        path += f"/versions/{version}"
    return f"{path}:{attributes.get('tfs-method', 'predict')}"
