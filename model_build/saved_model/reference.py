"""The SavedModel's responses to a few images, to compare other builds of the same network with."""

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE_FILE = "reference.json.gz"
REFERENCE_IMAGES = 4
_DECIMALS = 4
"""Decimals of the probabilities; a wrongly compiled network differs by far more."""


def write_reference(images: "NDArray[np.uint8]", masks: "NDArray[np.float32]", path: Path) -> None:
    """Write the first images as requests of TensorFlow Serving's REST API, one image each, with their responses.

    masks: probabilities of shape (images, 224, 224, 1). Equal images and masks give equal bytes.
    """
    samples = [
        {
            "request": {"instances": [(image / 255).round(6).tolist()]},
            "answer": {"predictions": [mask.astype(float).round(_DECIMALS).tolist()]},
        }
        for image, mask in zip(images[:REFERENCE_IMAGES], masks[:REFERENCE_IMAGES], strict=True)
    ]
    text = json.dumps({"samples": samples}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
