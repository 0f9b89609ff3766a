"""The accuracy gate, a ratio to FP32 as in MLPerf Inference."""

from typing import Literal

from containers.serving.manifest import Scores
from model_build.errors import BuildError


def check_gate(fp32: Scores, int8: Scores, min_f1_ratio: float) -> None:
    """Raise BuildError if INT8's F1 is less than `min_f1_ratio` of FP32's on the same questions."""
    limit = min_f1_ratio * fp32.f1
    if int8.f1 < limit:
        raise BuildError(
            f"accuracy gate failed: F1 is {fp32.f1:.2f} before quantization and {int8.f1:.2f} after, "
            f"the limit is {limit:.2f} "
            f"({min_f1_ratio:.2%} of FP32, {fp32.questions} questions). Calibrate on more or better data, "
            "or lower gate.min_f1_ratio if the loss is acceptable"
        )


def gate_label(ratio: float, min_f1_ratio: float) -> Literal["99.9%", "99%", "passed"]:
    """Return the stricter of MLPerf's two limits that the ratio meets, or "passed" if it meets only the recipe's."""
    if ratio >= 0.999:
        return "99.9%"
    return "99%" if ratio >= max(0.99, min_f1_ratio) else "passed"
