"""Traced models on real NeuronCores.

The process sees only its own cores (NEURON_RT_VISIBLE_CORES), so the runtime's default placement is correct.
Source: AWS Neuron documentation, "NeuronCore Allocation and Model Placement".
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from containers.neuron_encoder.artifact import INPUTS, NeuronArtifact, Target
from containers.neuron_encoder.devices.core import CoreGroup
from containers.serving.errors import StartupError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

_MODULES: dict[Target, tuple[str, str]] = {
    "inf2": ("torch-neuronx", "torch_neuronx"),
    "inf1": ("torch-neuron", "torch_neuron"),
}
"""Package and module by target; importing the module registers the operators of traced models."""


def version(target: Target) -> tuple[str, str]:
    """Return the target's SDK package and its installed version without the build label; raises StartupError."""
    package, module = _sdk(target)
    return package, str(module.__version__).partition("+")[0]


def _sdk(target: Target) -> tuple[str, Any]:
    if target not in _MODULES:
        raise StartupError(
            f"the artifact is of target {target}: NeuronCores run {' and '.join(_MODULES)}; set NEURON_ENCODER_DEVICE "
            "to cpu, or build it for the device"
        )
    package, name = _MODULES[target]
    try:
        return package, import_module(name)
    except ImportError as error:
        raise StartupError(
            f"{package} is not installed ({error}): build the image on a Neuron deep learning container of {target}"
        ) from error


class NeuronDevice:
    """The traced TorchScript models, one per file of the buckets."""

    def __init__(self, torch: Any, models: dict[tuple[int, int], Any], core: CoreGroup) -> None:
        self._torch, self._models, self._core = torch, models, core

    @classmethod
    def load(cls, model_dir: Path, artifact: NeuronArtifact, core: CoreGroup) -> "NeuronDevice":
        """Load every file onto the process's cores; raises StartupError without the target's SDK."""
        _sdk(artifact.target)
        torch = import_module("torch")
        files = {file: torch.jit.load(model_dir / file) for file in sorted({b.file for b in artifact.buckets})}
        return cls(torch, {(b.length, b.batch): files[b.file] for b in artifact.buckets}, core)

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, float32 of shape (rows, tokens)."""
        rows, length = batch.input_ids.shape
        model, arrays = self._models[length, rows], batch.arrays()
        inputs = [self._torch.from_numpy(arrays[name]) for name in INPUTS]

        def infer() -> tuple[FloatArray, FloatArray]:
            with self._torch.inference_mode():
                start, end = model(*inputs)
            return np.asarray(start.float().numpy()), np.asarray(end.float().numpy())

        return self._core.run(infer)
