"""Scores of predicted masks: intersection over union (IoU) and Dice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from containers.saved_model.images import binary_mask


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean IoU and mean Dice over images, each 0 to 1, and the number of images."""

    iou: float
    dice: float
    images: int


def ious(truth: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each image's intersection over union; 1 if neither the truth nor the prediction has foreground.

    truth: shape (images, 224, 224).
    probabilities: shape (images, 224, 224, 1); the serving threshold is applied.
    """
    intersection, truth_size, predicted_size = _areas(truth, probabilities)
    return _ratio(intersection, truth_size + predicted_size - intersection)


def score(truth: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> Scores:
    """Return the scores of predictions; the shapes are those of `ious`."""
    intersection, truth_size, predicted_size = _areas(truth, probabilities)
    dice = _ratio(2 * intersection, truth_size + predicted_size)
    return Scores(float(ious(truth, probabilities).mean()), float(dice.mean()), len(truth))


def _areas(
    truth: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    predicted = binary_mask(probabilities[..., 0]) > 0
    return (truth & predicted).sum((1, 2)), truth.sum((1, 2)), predicted.sum((1, 2))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))
