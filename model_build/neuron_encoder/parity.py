"""How far a traced model is from the same model in PyTorch on the processor."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch
from model_build.errors import BuildError

PARITY_FILE = "parity.json"
Infer = Callable[[EncoderBatch], tuple[FloatArray, FloatArray]]
"""Start and end logits of a batch, each of shape (rows, tokens)."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What the comparison found, or why there was none.

    differences: the largest of a logit, by bucket as `length x batch`. note: where nothing could be compared.
    """

    checked: bool
    tolerance: float
    differences: dict[str, float]
    note: str | None = None

    @property
    def largest(self) -> float | None:
        """Of all buckets; None where none was compared."""
        return max(self.differences.values()) if self.differences else None

    def summary(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"largest": self.largest}


def probe(length: int, batch: int, vocabulary: int, seed: int) -> EncoderBatch:
    """Rows of a bucket as requests fill them: of different lengths, padded, half of each in the second segment."""
    generator = np.random.default_rng([seed, length, batch])
    ids, mask, types = (np.zeros((batch, length), dtype=np.int64) for _ in range(3))
    for row in range(batch):
        tokens = int(generator.integers(length // 2, length + 1))
        # BERT's vocabularies begin with reserved entries.
        ids[row, :tokens] = generator.integers(min(999, vocabulary - 2), vocabulary, tokens)
        mask[row, :tokens] = 1
        types[row, tokens // 2 : tokens] = 1
    return EncoderBatch(ids, mask, types)


def compare(batch: EncoderBatch, eager: Infer, traced: Infer) -> float:
    """The largest difference of a logit of a token that is no padding; not a number where one is not."""
    real = batch.attention_mask == 1
    return max(
        float(np.max(np.abs(expected - found)[real]))
        for expected, found in zip(eager(batch), traced(batch), strict=True)
    )


def check_parity(
    shapes: tuple[tuple[int, int], ...], vocabulary: int, seed: int, tolerance: float, eager: Infer, traced: Infer
) -> Parity:
    """Compares every bucket (length, batch); raises BuildError for those beyond the tolerance."""
    differences = {
        f"{length}x{batch}": compare(probe(length, batch, vocabulary, seed), eager, traced) for length, batch in shapes
    }
    # What is not a number is within no tolerance.
    if wrong := {name: difference for name, difference in differences.items() if not difference <= tolerance}:
        found = ", ".join(f"{name}: {difference:.3g}" for name, difference in wrong.items())
        raise BuildError(
            f"the traced model does not answer as PyTorch does: logits differ by more than tolerance {tolerance:g} in "
            f"the buckets {found}; compile with --auto-cast none, or allow more by tolerance"
        )
    return Parity(True, tolerance, differences)
