"""A virtual NeuronCore that takes as long as a real one and answers nothing of worth: for measuring the host."""

import numpy as np

from containers.neuron_encoder.devices.core import CoreGroup
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

_BATCHES, _SECONDS = (1, 8), (1.0e-3, 5.97e-3)
"""BERT-base on one NeuronCore of inf2 (AWS Neuron performance page, Inf2): latency by batch size."""


def service_seconds(batch: int) -> float:
    """Time that a core takes for a batch: as published for 1 and 8 rows, on the line through the two elsewhere."""
    (low, high), (first, last) = _BATCHES, _SECONDS
    return first + (batch - low) * (last - first) / (high - low)


class TimedDevice:
    """Logits are a function of the tokens alone, so that equal questions have equal answers."""

    def __init__(self, core: CoreGroup) -> None:
        self._core = core

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Start and end logits, float32 of shape (rows, tokens), after the published time for so many rows."""
        self._core.occupy(service_seconds(len(batch.input_ids)))
        start = (batch.input_ids % 97).astype(np.float32)
        end = ((batch.input_ids + batch.token_type_ids) % 89).astype(np.float32)
        return start, end
