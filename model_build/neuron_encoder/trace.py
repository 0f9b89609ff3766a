"""The calls to AWS's tracing libraries, around a module that is given; nothing here imports one, or PyTorch."""

from collections.abc import Sequence
from typing import Any, Protocol


class TorchNeuronX(Protocol):
    """What is used of `torch_neuronx`; see signatures.py."""

    def trace(self, func: Any, example_inputs: Any, *_: Any, **kwargs: Any) -> Any:
        """Compiles a function for one shape of inputs, and returns a ScriptModule."""

    def dynamic_batch(self, neuron_script: Any) -> Any:
        """Lets a traced module take other batches than that of its example."""

    def async_load(self, trace: Any, enable_async_load: bool = True) -> None:
        """Lets a traced module load in the background."""


class TorchNeuron(Protocol):
    """What is used of `torch_neuron`; see signatures.py."""

    def trace(self, model: Any, example_inputs: Any, **kwargs: Any) -> Any:
        """Compiles what Inferentia can compute of a module, and returns a ScriptModule."""


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
    """Traces for Inferentia2; the module comes back as it is to be saved.

    on_device: whether a NeuronCore is here. Without one the SDK must be told to trace on the processor.
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
    """Traces for Inferentia, on any machine; what its compiler lacks, as embeddings, stays on the processor."""
    options: dict[str, Any] = {"compiler_args": list(compiler_args)} if compiler_args else {}
    if dynamic_batch:
        options["dynamic_batch_size"] = True
    return sdk.trace(model, example_inputs, **options)
