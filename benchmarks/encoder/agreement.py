"""Check that engines give the same responses; a faster engine that is wrong is not compared."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.encoder.engines import REFERENCE, Rival
from benchmarks.encoder.lengths import LONGEST
from benchmarks.errors import BenchmarkError

Logits = Sequence[Sequence[float]]
CHECKED_LENGTHS = (66, 203, LONGEST)
LARGEST_DISTANCE: Mapping[str, float] = {"fp32": 0.01, "int8": 0.15}
"""Largest distance of the logits from the reference's, by precision."""


def distance(logits: Logits, reference: Logits) -> float:
    """Return the RMS of the differences over the spread of the reference's logits; 0 is equal, 1 is unrelated."""
    apart = sum(float(np.sum(np.subtract(a, b) ** 2)) for a, b in zip(logits, reference, strict=True))
    spread = sum(float(np.sum(np.subtract(each, np.mean(each)) ** 2)) for each in reference)
    return float(np.sqrt(apart / spread))


def check(outputs: Sequence[tuple[Rival, Logits]]) -> dict[str, float]:
    """Return distances by engine name; raises BenchmarkError for one that is larger than its precision explains."""
    reference = next(logits for rival, logits in outputs if rival.name == REFERENCE)
    distances = {rival.name: distance(logits, reference) for rival, logits in outputs}
    for rival, _ in outputs:
        if not distances[rival.name] <= LARGEST_DISTANCE[rival.precision]:
            raise BenchmarkError(
                f"{rival.name} answers otherwise than {REFERENCE}: its logits are {distances[rival.name]:.3f} apart, "
                f"and {rival.precision} explains {LARGEST_DISTANCE[rival.precision]}; it is broken or has other weights"
            )
    return distances
