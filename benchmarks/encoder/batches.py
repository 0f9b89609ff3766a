"""Batches to run on an engine."""

from collections.abc import Callable
from typing import Any

import numpy as np

from containers.serving.question_answering.windows import EncoderBatch

_VOCABULARY = 30_522
_SEPARATOR = 102
Infer = Callable[[EncoderBatch], Any]
"""Callable that returns a batch's start and end logits, as arrays or tensors of shape (rows, tokens)."""


def batch(rows: int, length: int, padded: int, seed: int) -> EncoderBatch:
    """Return random tokens of a question and its context, padded with masked zeros."""
    random = np.random.default_rng(seed)
    ids, mask, types = (np.zeros((rows, padded), dtype=np.int64) for _ in range(3))
    ids[:, :length] = random.integers(1000, _VOCABULARY, (rows, length))
    ids[:, 0], ids[:, 11], ids[:, length - 1] = 101, _SEPARATOR, _SEPARATOR
    mask[:, :length] = 1
    types[:, 12:length] = 1
    return EncoderBatch(ids, mask, types)
