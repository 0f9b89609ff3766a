"""The parts of training that do not need TensorFlow: the order of the images, and the record of a training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from containers.saved_model.images import to_floats
from model_build.saved_model.data import Dataset

TRAINING_FILE = "training.json"


@dataclass(frozen=True, slots=True)
class Training:
    """The record of a training.

    parameters: number of the network's parameters.
    epochs: number of epochs run.
    best_epoch: number of the epoch whose weights are kept, counted from 1.
    validation_iou: its IoU on the validation images.
    """

    parameters: int
    epochs: int
    best_epoch: int
    validation_iou: float


def batch_count(images: int, size: int) -> int:
    """Return the number of batches of up to `size` for this number of images."""
    return -(-images // size)


def batch(
    data: Dataset, size: int, number: int, seed: tuple[int, int] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return one batch: images of shape (rows, 224, 224, 3), 0 to 1, and masks of shape (rows, 224, 224, 1), 0 or 1.

    seed: the recipe's seed and the epoch's number, which shuffle the images and mirror each batch; None does neither.
    """
    rows = np.arange(len(data.images))
    axes: tuple[int, ...] = ()
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(rows)
        mirrored = np.random.default_rng((*seed, number)).random(2) < 0.5
        axes = tuple(axis for axis, flip in zip((1, 2), mirrored, strict=True) if flip)
    part = data.take(rows[number * size : (number + 1) * size])
    images, masks = np.flip(part.images, axes), np.flip(part.masks, axes)
    return to_floats(images), masks[..., np.newaxis].astype(np.float32)
