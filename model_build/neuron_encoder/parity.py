"""Compare a traced model with the same model in PyTorch on the CPU."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch
from model_build.errors import BuildError

PARITY_FILE = "parity.json"
Infer = Callable[[EncoderBatch], tuple[FloatArray, FloatArray]]
"""Returns start and end logits of a batch, each float32 of shape (rows, tokens)."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The result of the comparison, or the reason why there was none.

    checked: whether the models were compared.
    tolerance: largest allowed difference of a logit.
    differences: largest difference of a logit by bucket, such as `128x8` for length and batch.
    note: reason why nothing could be compared, or None.
    """

    checked: bool
    tolerance: float
    differences: dict[str, float]
    note: str | None = None

    @property
    def largest(self) -> float | None:
        """Return the largest difference of all buckets, or None if none was compared."""
        return max(self.differences.values()) if self.differences else None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self) | {"largest": self.largest}


def probe(length: int, batch: int, vocabulary: int, seed: int) -> EncoderBatch:
    """Return rows of a bucket that resemble requests: padded, of different lengths, half in the second segment."""
    generator = np.random.default_rng([seed, length, batch])
    ids, mask, types = (np.zeros((batch, length), dtype=np.int64) for _ in range(3))
    for row in range(batch):
        tokens = int(generator.integers(length // 2, length + 1))
        # BERT's vocabularies start with reserved entries.
        ids[row, :tokens] = generator.integers(min(999, vocabulary - 2), vocabulary, tokens)
        mask[row, :tokens] = 1
        types[row, tokens // 2 : tokens] = 1
    return EncoderBatch(ids, mask, types)


def compare(batch: EncoderBatch, eager: Infer, traced: Infer) -> float:
    """Return the largest difference of a logit over all tokens except padding; NaN if a logit is NaN."""
    real = batch.attention_mask == 1
    return max(
        float(np.max(np.abs(expected - actual)[real]))
        for expected, actual in zip(eager(batch), traced(batch), strict=True)
    )


def check_parity(
    shapes: tuple[tuple[int, int], ...], vocabulary: int, seed: int, tolerance: float, eager: Infer, traced: Infer
) -> Parity:
    """Compare every bucket (length, batch); raises BuildError for differences beyond the tolerance."""
    differences = {
        f"{length}x{batch}": compare(probe(length, batch, vocabulary, seed), eager, traced) for length, batch in shapes
    }
    # This form of the check also refuses NaN.
    if wrong := {name: difference for name, difference in differences.items() if not difference <= tolerance}:
        listed = ", ".join(f"{name}: {difference:.3g}" for name, difference in wrong.items())
        raise BuildError(
            f"the traced model differs from PyTorch: logits differ by more than tolerance {tolerance:g} in "
            f"the buckets {listed}; compile with --auto-cast none, or raise tolerance"
        )
    return Parity(True, tolerance, differences)
