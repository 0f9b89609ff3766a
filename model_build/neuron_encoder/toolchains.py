"""The toolchain of each target, which traces a model and runs the result; only its own packages are imported."""

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
    """A toolchain that traces models for `containers.neuron_encoder.devices` of the same target.

    engine: package and version that the server must have.
    attention: transformers' name of the attention implementation to trace.
    """

    engine: tuple[str, str]
    attention: str

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""

    def file(self, length: int, batch: int) -> str:
        """Return the name of the file that serves a bucket."""

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Write a bucket's file into a folder."""

    def eager(self, model: Any) -> Infer:
        """Return the model in PyTorch on the CPU."""

    def traced(self, folder: Path) -> Infer | None:
        """Return the traced model, or None if it cannot run for lack of a device."""


def toolchain(recipe: NeuronEncoderRecipe) -> Toolchain:
    """Return the toolchain of a recipe's target; raises BuildError if its SDK is not installed."""
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
    """The toolchain of torch-neuronx (Inferentia2) and torch-neuron (Inferentia), with one TorchScript file per trace.

    torch: the PyTorch module that the SDK works with.
    devices: folder of the device files.
    """

    # The compilers support it best, and torch-neuron's PyTorch has no other.
    attention = "eager"

    def __init__(self, recipe: NeuronEncoderRecipe, sdk: Sdk, torch: Any, devices: Path = _DEVICES) -> None:
        self._recipe, self._sdk, self._torch = recipe, sdk, torch
        self._on_device = (devices / "neuron0").exists()
        self.engine = (sdk.framework, sdk.version)

    def versions(self) -> dict[str, str]:
        """Return the versions of the SDK, PyTorch and transformers."""
        return {**self._sdk.versions, **{name: metadata.version(name) for name in ("torch", "transformers")}}

    def file(self, length: int, batch: int) -> str:
        """Return the name of the file that serves a bucket; with dynamic batches, one file serves a length."""
        return f"model_{length}.pt" if self._recipe.dynamic_batch else f"model_{length}x{batch}.pt"

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Compile the model for one shape, which takes minutes."""
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
        """Return the model in PyTorch on the CPU."""
        return _eager(self._torch, model)

    def traced(self, folder: Path) -> Infer | None:
        """Return the traced model on the device, or None without a device, since it runs nowhere else."""
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
    """The toolchain of OpenVINO in FP32, with the encoder build's conversion: one dynamic model serves every bucket."""

    def __init__(self) -> None:
        from containers.encoder.engines import openvino
        from model_build.encoder.engines.openvino import ENGINE

        self._runtime, self._engine = openvino, ENGINE
        self.attention: str = ENGINE.attention
        self.engine = ("openvino", openvino.version())

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        return {name: metadata.version(name) for name in ("openvino", "torch", "transformers")}

    def file(self, length: int, batch: int) -> str:
        """Return the name of the only file."""
        del length, batch  # The protocol passes them; one file serves every bucket.
        return str(self._runtime.MODEL_FILE)

    def trace(self, model: Any, length: int, batch: int, recipe: NeuronEncoderRecipe, output: Path) -> None:
        """Convert the model with dynamic batch and length."""
        del length, batch, recipe  # The protocol passes them; the conversion does not depend on them.
        self._engine.export(model.model, output)

    def eager(self, model: Any) -> Infer:
        """Return the model in PyTorch on the CPU."""
        return _eager(import_module("torch"), model)

    def traced(self, folder: Path) -> Infer | None:
        """Return the converted model, which OpenVINO can always run on the build machine."""
        engine = self._runtime.load(folder, available_cores())

        def infer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            start, end = engine.infer(batch)
            return np.asarray(start), np.asarray(end)

        return infer


def no_device(target: Target) -> str:
    """Return the note for a build without a device, on which nothing can be compared."""
    return (
        f"not compared: models for {target} run only on its NeuronCores, and this machine has none; build on an "
        "instance of that family to check parity"
    )
