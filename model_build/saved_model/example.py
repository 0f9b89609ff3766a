"""Choose the image that the container must segment at its start as the build did."""

import numpy as np
from numpy.typing import NDArray

from containers.saved_model.example import make_example
from containers.saved_model.signature import MASK_THRESHOLD
from containers.serving.manifest import Example

TOLERANCE = 0.05
"""Part of the foreground, and mean difference of a probability, that another processor's rounding may change."""
_LEAST_SHARE = 0.05
"""Least part of an image for foreground and background each: a model that always gives one of them must not pass."""


def choose_example(images: NDArray[np.uint8], masks: NDArray[np.float32]) -> Example:
    """Return the image whose mask is the most certain, of those that have both foreground and background.

    images: of shape (images, 224, 224, 3). masks: the artifact's probabilities, of shape (images, 224, 224, 1).
    """
    shares = (masks >= MASK_THRESHOLD).mean((1, 2, 3))
    certainty = np.abs(masks - MASK_THRESHOLD).mean((1, 2, 3))
    both = (shares >= _LEAST_SHARE) & (shares <= 1 - _LEAST_SHARE)
    best = int(np.argmax(np.where(both, 1, 0) + certainty))
    return make_example(images[best], masks[best, :, :, 0], TOLERANCE)
