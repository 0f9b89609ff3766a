"""Write pictures of images, truth and predictions side by side, and sample images to send."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from containers.saved_model.images import binary_mask
from containers.saved_model.signature import IMAGE_SIDE
from model_build.saved_model.data import IMAGES_FOLDER, MASKS_FOLDER, Dataset
from model_build.saved_model.scores import ious

_ROWS = 6
_GAP = 6
_CAPTION = 16
"""Pixels above each picture for a caption in Pillow's built-in 11-pixel font."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Fixed date, the earliest that a zip can hold, so equal samples give equal bytes."""


def draw(data: Dataset, predictions: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Write a PNG of up to six images, from the best to the worst IoU of the first prediction.

    predictions: probabilities of shape (images, 224, 224, 1) by the caption above them.
    """
    scored = {name: (binary_mask(masks[..., 0]), ious(data.masks, masks)) for name, masks in predictions.items()}
    first = next(iter(scored.values()))[1]
    ranked = np.argsort(-first, kind="stable")
    shown = ranked[np.linspace(0, len(ranked) - 1, min(_ROWS, len(ranked))).round().astype(np.intp)]
    step = IMAGE_SIDE + _GAP
    sheet = Image.new("RGB", (_GAP + step * (2 + len(scored)), _GAP + (step + _CAPTION) * len(shown)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, row in enumerate(shown):
        top = _GAP + line * (step + _CAPTION)
        truth = np.where(data.masks[row], np.uint8(255), np.uint8(0))
        cells = [(str(data.names[row])[-36:], data.images[row]), ("truth", truth)]
        cells += [(f"{name}: IoU {scores[row]:.3f}", masks[row]) for name, (masks, scores) in scored.items()]
        for position, (caption, pixels) in enumerate(cells):
            left = _GAP + position * step
            pen.text((left, top), caption, fill="black")
            sheet.paste(Image.fromarray(pixels), (left, top + _CAPTION))
    sheet.save(path, "PNG", optimize=True)


def write_samples(data: Dataset, count: int, path: Path) -> None:
    """Write a zip of the first images and masks in the layout that builds read; equal data give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for row in range(min(count, len(data.images))):
            mask = np.where(data.masks[row], np.uint8(255), np.uint8(0))
            for folder, pixels in ((IMAGES_FOLDER, data.images[row]), (MASKS_FOLDER, mask)):
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, "PNG")
                archive.writestr(zipfile.ZipInfo(f"{folder}/{data.names[row]}.png", _ZIP_DATE), stream.getvalue())
