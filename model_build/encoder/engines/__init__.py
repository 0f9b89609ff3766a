"""What each engine needs to make its FP32 and INT8 models."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch

from containers.serving.question_answering.windows import EncoderBatch


class Int8Engine(Protocol):
    """Makes models that `containers.encoder.engines.load_engine` loads and runs.

    name: of the engine of the INT8 model. fp32_engine: of the FP32 model. calibrates: its INT8 depends on the
    calibration's batches.
    """

    name: str
    fp32_engine: str
    calibrates: bool
    attention: str
    int8_instruction_sets: tuple[str, ...]

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Writes the FP32 model."""

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Writes the INT8 model; `fp32` is the folder that `export` filled."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages that shape the result."""


class LogitsOnly(torch.nn.Module):
    """A question-answering model as a function of three tensors that returns start and end logits."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Start and end logits of shape (rows, tokens)."""
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
        )
        return outputs[0], outputs[1]


def example_inputs(length: int = 128) -> dict[str, torch.Tensor]:
    """One row of ones for tracing, under the names of BERT's inputs."""
    return {name: torch.ones(1, length, dtype=torch.long) for name in EncoderBatch.INPUTS}


def engine(name: str) -> Int8Engine:
    """The engine of that name; only its own packages are imported."""
    return cast(Int8Engine, import_module(f"model_build.encoder.engines.{name}").ENGINE)
