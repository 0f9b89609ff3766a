"""The engines' builders of FP32 and INT8 models, behind one protocol."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch

from containers.serving.question_answering.windows import EncoderBatch


class Int8Engine(Protocol):
    """A builder of models for `containers.encoder.engines.load_engine`.

    name: engine of the INT8 model.
    fp32_engine: engine of the FP32 model.
    calibrates: whether the INT8 model depends on the calibration batches.
    attention: transformers' name of the attention implementation, "sdpa" or "eager".
    int8_instruction_sets: instruction sets; the INT8 model needs at least one of them.
    """

    name: str
    fp32_engine: str
    calibrates: bool
    attention: str
    int8_instruction_sets: tuple[str, ...]

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Write the FP32 model."""

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Write the INT8 model; `fp32` is the output folder of `export`."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""


class LogitsOnly(torch.nn.Module):
    """A question-answering model wrapped as a function of three tensors that returns start and end logits."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return start and end logits of shape (rows, tokens)."""
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
        )
        return outputs[0], outputs[1]


def example_inputs(length: int = 128) -> dict[str, torch.Tensor]:
    """Return one row of ones for tracing, by the names of BERT's inputs."""
    return {name: torch.ones(1, length, dtype=torch.long) for name in EncoderBatch.INPUTS}


def engine(name: str) -> Int8Engine:
    """Return the named engine's builder, importing only that engine's packages."""
    return cast(Int8Engine, import_module(f"model_build.encoder.engines.{name}").ENGINE)
