"""The accuracy gate, a ratio to FP32 as in MLPerf Inference, and its record in every archive."""

from dataclasses import dataclass
from typing import Literal

from model_build.errors import BuildError
from model_build.saved_model.recipe import Gate
from model_build.saved_model.scores import Scores

ACCURACY_FILE = "accuracy.json"
GateLabel = Literal["reference", "99.9%", "99%", "passed"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Scores of TensorFlow in FP32 and of one artifact on the same held-out images.

    iou_ratio: artifact IoU / FP32 IoU.
    gate: the stricter of MLPerf's two limits that the ratio meets, "passed" if it meets only the recipe's, or
        "reference" for TensorFlow itself.
    """

    dataset: str
    fp32: Scores
    artifact: Scores
    iou_ratio: float
    min_iou_ratio: float
    gate: GateLabel


def check_reference(dataset: str, fp32: Scores, gate: Gate) -> Accuracy:
    """Return the accuracy of the reference model; raises BuildError if its IoU is below `min_iou`."""
    if fp32.iou < gate.min_iou:
        raise BuildError(
            f"accuracy gate failed: IoU of the trained network is {fp32.iou:.4f}, the limit is {gate.min_iou:.4f} "
            f"({fp32.images} images). Train longer or on more images, or lower gate.min_iou if the accuracy is "
            "acceptable"
        )
    return Accuracy(dataset, fp32, fp32, 1.0, gate.min_iou_ratio, "reference")


def check_gate(precision: str, dataset: str, fp32: Scores, artifact: Scores, gate: Gate) -> Accuracy:
    """Return an artifact's accuracy; raises BuildError if its IoU is less than `min_iou_ratio` of FP32's."""
    limit = gate.min_iou_ratio * fp32.iou
    if artifact.iou < limit:
        raise BuildError(
            f"accuracy gate failed: IoU is {fp32.iou:.4f} in FP32 and {artifact.iou:.4f} in {precision}, "
            f"the limit is {limit:.4f} ({gate.min_iou_ratio:.2%} of FP32, {fp32.images} images). "
            "Calibrate on more images, train longer, or lower gate.min_iou_ratio if the loss is acceptable"
        )
    ratio = artifact.iou / fp32.iou if fp32.iou else 1.0
    label: GateLabel = "99.9%" if ratio >= 0.999 else "99%" if ratio >= max(0.99, gate.min_iou_ratio) else "passed"
    return Accuracy(dataset, fp32, artifact, ratio, gate.min_iou_ratio, label)
