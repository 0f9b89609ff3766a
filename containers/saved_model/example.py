"""The example of a segmentation model: a picture and its mask, as PNG."""

import io

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from containers.saved_model.engine import Segmenter, probabilities
from containers.saved_model.images import PNG, decode_image, encode_mask, open_image, to_floats
from containers.saved_model.signature import MASK_THRESHOLD
from containers.serving.example import ExampleForm
from containers.serving.manifest import Example

_LEVELS = 255
"""Steps of a probability in the mask's PNG."""


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture as a PNG, which JSON holds in base64."""

    png: bytes


class Mask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mask's probabilities as a gray PNG, from 0 to 255."""

    png: bytes


def respond(model: Segmenter, picture: Picture) -> Mask:
    """Return a picture's mask; raises ServingError for one that is not finite."""
    pixels = to_floats(decode_image(picture.png, PNG))[np.newaxis]
    return mask_of(probabilities(model, pixels)[0, :, :, 0])


def mask_of(mask: NDArray[np.float32]) -> Mask:
    """Return probabilities of shape (224, 224) as they are recorded."""
    return Mask(encode_mask(np.rint(mask.clip(0, 1) * _LEVELS).astype(np.uint8)))


def make_example(image: NDArray[np.uint8], mask: NDArray[np.float32], tolerance: float) -> Example:
    """Return an image of shape (224, 224, 3) and its mask of shape (224, 224) as the manifest records them."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    picture, recorded = Picture(stream.getvalue()), mask_of(mask)
    return Example(request=msgspec.to_builtins(picture), response=msgspec.to_builtins(recorded), tolerance=tolerance)


def _difference(actual: Mask, recorded: Mask, tolerance: float) -> str:
    """Compare the probabilities, and which pixels are foreground: a small object hardly changes the mean."""
    one, other = _probabilities(actual), _probabilities(recorded)
    mean = float(np.abs(one - other).mean())
    foregrounds = one >= MASK_THRESHOLD, other >= MASK_THRESHOLD
    union = int(np.logical_or(*foregrounds).sum())
    common = int(np.logical_and(*foregrounds).sum()) / union if union else 1.0
    if mean <= tolerance and 1 - common <= tolerance:
        return ""
    return (
        f"its mask shares {common:.1%} of the foreground with the recorded one, with a mean difference of {mean:.3f}; "
        f"{tolerance:g} may differ"
    )


def _probabilities(mask: Mask) -> NDArray[np.float64]:
    return np.asarray(open_image(mask.png, PNG).convert("L")) / _LEVELS


SEGMENTATION = ExampleForm(Picture, Mask, _difference)
