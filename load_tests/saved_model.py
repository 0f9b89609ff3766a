"""The requests of the saved_model workload: one image each, as PNG, as an npy array or as JSON."""

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
    """An image of the build's test share and its mask: uint8 (224, 224, 3), and bool (224, 224)."""

    name: str
    png: bytes
    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def read_samples(archive: bytes) -> list[Sample]:
    """The images and masks of a build's `samples.zip`."""
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
    """An image file as an array."""
    return np.asarray(Image.open(io.BytesIO(png)))


def requests(samples: Sequence[Sample], form: Form) -> list[Request]:
    """A request per image; the answer to JSON is JSON, to npy an npy array, to PNG a PNG."""
    return [_request(sample, form) for sample in samples]


def _request(sample: Sample, form: Form) -> Request:
    if form == "png":
        return Request(body=sample.png, content_type=PNG, accept=PNG)
    if form == "npy":
        stream = io.BytesIO()
        np.save(stream, sample.pixels)
        # Black and white, as in a PNG: a quarter of the bytes of probabilities.
        return Request(body=stream.getvalue(), content_type=NPY, accept=f"{NPY}; dtype=uint8")
    # Four digits hold a 256th exactly enough, and keep the body at about a megabyte.
    values = np.round(sample.pixels.astype(np.float64) / 255, 4).tolist()
    return Request(body=json.dumps({"instances": [values]}).encode(), content_type=JSON, accept=JSON)


def answered_mask(body: bytes, form: Form) -> npt.NDArray[np.bool_]:
    """The mask in an answer to one image, bool of shape (224, 224)."""
    if form == "png":
        return pixels(body) > 127
    if form == "npy":
        answer = np.load(io.BytesIO(body), allow_pickle=False)
    else:
        answer = np.asarray(json.loads(body)["predictions"])
    # An npy answer to uint8 pixels may be uint8 itself.
    threshold = 127 if answer.dtype == np.uint8 else 0.5
    return np.asarray(np.squeeze(answer) > threshold, dtype=np.bool_)


def iou(answer: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int(np.logical_or(answer, truth).sum())
    return int(np.logical_and(answer, truth).sum()) / union if union else 1.0
