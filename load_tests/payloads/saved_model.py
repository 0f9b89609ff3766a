"""Requests for the saved_model workload: one image each, as PNG, npy array or JSON."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from load_tests.closed_loop import Request

Form = Literal["png", "npy", "json"]
JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image from the build's test split, uint8 (224, 224, 3), and its mask, bool (224, 224)."""

    name: str
    png: bytes
    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def read_samples(archive: bytes) -> list[Sample]:
    """Read the images and masks of a build's `samples.zip`."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = sorted(name.removeprefix("images/") for name in opened.namelist() if name.startswith("images/"))
        return [
            Sample(
                name.removesuffix(".png"),
                opened.read(f"images/{name}"),
                pixels(opened.read(f"images/{name}")),
                pixels(opened.read(f"masks/{name}")) > 127,
            )
            for name in names
        ]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image file into an array."""
    return np.asarray(Image.open(io.BytesIO(png)))


def requests(samples: Sequence[Sample], form: Form) -> list[Request]:
    """Return one request per image; the response has the request's format: JSON, npy array or PNG."""
    return [_request(sample, form) for sample in samples]


def _request(sample: Sample, form: Form) -> Request:
    if form == "png":
        return Request(body=sample.png, content_type=PNG, accept=PNG)
    if form == "npy":
        stream = io.BytesIO()
        np.save(stream, sample.pixels)
        # The uint8 mask is black and white, as in a PNG: a quarter of the bytes of probabilities.
        return Request(body=stream.getvalue(), content_type=NPY, accept=f"{NPY}; dtype=uint8")
        # Four digits represent a 256th accurately enough, and keep the body at about a megabyte.
    values = np.round(sample.pixels.astype(np.float64) / 255, 4).tolist()
    return Request(body=json.dumps({"instances": [values]}).encode(), content_type=JSON, accept=JSON)


def answered_mask(body: bytes, form: Form) -> npt.NDArray[np.bool_]:
    """Decode the mask in the response to one image: bool, shape (224, 224)."""
    if form == "png":
        return pixels(body) > 127
    if form == "npy":
        values = np.load(io.BytesIO(body), allow_pickle=False)
    else:
        values = np.asarray(json.loads(body)["predictions"])
    # An npy response to uint8 pixels may be uint8 itself.
    threshold = 127 if values.dtype == np.uint8 else 0.5
    return np.asarray(np.squeeze(values) > threshold, dtype=np.bool_)


def iou(answer: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    union = int(np.logical_or(answer, truth).sum())
    return int(np.logical_and(answer, truth).sum()) / union if union else 1.0
