"""Calls to AWS's tracing libraries, which are passed in: this module imports neither them nor PyTorch."""

from collections.abc import Sequence
from typing import Any, Protocol


class TorchNeuronX(Protocol):
    """The used part of `torch_neuronx`; see signatures.py."""

    def trace(self, func: Any, example_inputs: Any, *_: Any, **kwargs: Any) -> Any:
        """Compile a function for one shape of inputs, and return a ScriptModule."""

    def dynamic_batch(self, neuron_script: Any) -> Any:
        """Return a traced module that accepts other batch sizes than that of its example."""

    def async_load(self, trace: Any, enable_async_load: bool = True) -> None:
        """Allow a traced module to load in the background."""


class TorchNeuron(Protocol):
    """The used part of `torch_neuron`; see signatures.py."""

    def trace(self, model: Any, example_inputs: Any, **kwargs: Any) -> Any:
        """Compile the part of a module that Inferentia supports, and return a ScriptModule."""


def trace_neuronx(
    sdk: TorchNeuronX,
    model: Any,
    example_inputs: tuple[Any, ...],
    *,
    compiler_args: Sequence[str],
    on_device: bool,
    dynamic_batch: bool,
    async_load: bool,
) -> Any:
    """Trace for Inferentia2, and return the module to save.

    on_device: whether this machine has a NeuronCore; without one, the SDK traces on the CPU (cpu_backend).
    """
    backend = {} if on_device else {"cpu_backend": True}
    traced = sdk.trace(model, example_inputs, compiler_args=list(compiler_args), **backend)
    if dynamic_batch:
        traced = sdk.dynamic_batch(traced)
    if async_load:
        sdk.async_load(traced)
    return traced


def trace_neuron(
    sdk: TorchNeuron,
    model: Any,
    example_inputs: tuple[Any, ...],
    *,
    compiler_args: Sequence[str],
    dynamic_batch: bool,
) -> Any:
    """Trace for Inferentia, on any machine; unsupported operations, such as embeddings, stay on the CPU."""
    options: dict[str, Any] = {"compiler_args": list(compiler_args)} if compiler_args else {}
    if dynamic_batch:
        options["dynamic_batch_size"] = True
    return sdk.trace(model, example_inputs, **options)
