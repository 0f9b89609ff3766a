"""What each target needs to trace a model and to run what was traced; only its own packages are imported."""

from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from containers.neuron_encoder.artifact import INPUTS
from containers.serving.cpu import available_cores
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch
from model_build.neuron_encoder.parity import Infer
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe, Target
from model_build.neuron_encoder.sdk import Sdk, load_sdk
from model_build.neuron_encoder.trace import trace_neuron, trace_neuronx

_DEVICES = Path("/dev")


class Toolchain(Protocol):
    """Makes what `containers.neuron_encoder.devices` of the same target loads and runs.

    engine: package and version that the server must have. attention: of transformers, as the target traces it.
    """

    engine: tuple[str, str]
    attention: str

    def versions(self) -> dict[str, str]:
        """Versions of the packages that shape the result."""

    def file(self, length: int, batch: int) -> str:
        """Name of the file that serves a bucket."""

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Writes that file into a folder."""

    def eager(self, model: Any) -> Infer:
        """The model in PyTorch on the processor."""

    def traced(self, folder: Path) -> Infer | None:
        """What was traced; None where it cannot run, since no device is here."""


def toolchain(recipe: NeuronEncoderRecipe) -> Toolchain:
    """The recipe's; raises BuildError where its SDK is not installed."""
    if recipe.target == "cpu":
        return OpenVinoToolchain()
    return NeuronToolchain(recipe, load_sdk(recipe.target), import_module("torch"))


def _eager(torch: Any, model: Any) -> Infer:
    def infer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        with torch.inference_mode():
            start, end = model(*(torch.from_numpy(batch.arrays()[name]) for name in INPUTS))
        return start.float().numpy(), end.float().numpy()

    return infer


class NeuronToolchain:
    """torch-neuronx for Inferentia2, torch-neuron for Inferentia: TorchScript, one file for each trace.

    torch: the PyTorch that the SDK is for. devices: where NeuronCores would be.
    """

    # What the compilers know best, and all that torch-neuron's PyTorch has.
    attention = "eager"

    def __init__(self, recipe: NeuronEncoderRecipe, sdk: Sdk, torch: Any, devices: Path = _DEVICES) -> None:
        self._recipe, self._sdk, self._torch = recipe, sdk, torch
        self._on_device = (devices / "neuron0").exists()
        self.engine = (sdk.framework, sdk.version)

    def versions(self) -> dict[str, str]:
        """Of the SDK and of what the model comes from."""
        return {**self._sdk.versions, **{name: metadata.version(name) for name in ("torch", "transformers")}}

    def file(self, length: int, batch: int) -> str:
        """With dynamic batches every batch of a length is served by the one trace."""
        return f"model_{length}.pt" if self._recipe.dynamic_batch else f"model_{length}x{batch}.pt"

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Compiles the model for one shape, which takes minutes."""
        torch = self._torch
        example = tuple(torch.ones(batch, length, dtype=torch.long) for _ in INPUTS)
        if recipe.target == "inf2":
            traced = trace_neuronx(
                self._sdk.module,
                model,
                example,
                compiler_args=recipe.arguments,
                on_device=self._on_device,
                dynamic_batch=recipe.dynamic_batch,
                async_load=recipe.async_load,
            )
        else:
            traced = trace_neuron(
                self._sdk.module,
                model,
                example,
                compiler_args=recipe.arguments,
                dynamic_batch=recipe.dynamic_batch,
            )
        torch.jit.save(traced, str(output / self.file(length, batch)))

    def eager(self, model: Any) -> Infer:
        """The model in PyTorch on the processor."""
        return _eager(self._torch, model)

    def traced(self, folder: Path) -> Infer | None:
        """Every file on the device; None without one, as what was compiled runs nowhere else."""
        if not self._on_device:
            return None
        loaded: dict[str, Infer] = {}

        def infer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            rows, length = batch.input_ids.shape
            name = self.file(length, rows)
            if name not in loaded:
                loaded[name] = _eager(self._torch, self._torch.jit.load(str(folder / name)))
            return loaded[name](batch)

        return infer


class OpenVinoToolchain:
    """OpenVINO in FP32, by encoder's conversion: one file with free shapes serves every bucket."""

    def __init__(self) -> None:
        from containers.encoder.engines import openvino
        from model_build.encoder.engines.openvino import ENGINE

        self._runtime, self._engine = openvino, ENGINE
        self.attention: str = ENGINE.attention
        self.engine = ("openvino", openvino.version())

    def versions(self) -> dict[str, str]:
        """Of the packages that shape the result."""
        return {name: metadata.version(name) for name in ("openvino", "torch", "transformers")}

    def file(self, length: int, batch: int) -> str:
        """The one file."""
        del length, batch
        return str(self._runtime.MODEL_FILE)

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Converts with free batch and length."""
        del length, batch, recipe
        self._engine.export(model.model, output)

    def eager(self, model: Any) -> Infer:
        """The model in PyTorch on the processor."""
        return _eager(import_module("torch"), model)

    def traced(self, folder: Path) -> Infer | None:
        """OpenVINO runs wherever it converts."""
        engine = self._runtime.load(folder, available_cores())

        def infer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            start, end = engine.infer(batch)
            return np.asarray(start), np.asarray(end)

        return infer


def no_device(target: Target) -> str:
    """Why nothing could be compared."""
    return (
        f"not compared: what is compiled for {target} runs on its NeuronCores only and none is on this machine; build "
        "on an instance of that family to have it gated"
    )
