"""Documented signatures of the pinned releases of AWS's tracing libraries.

The SDK is not on PyPI, so the build's calls are checked against these signatures, in tests and before tracing.

Sources in the AWS Neuron documentation:

- torch-neuronx: "PyTorch NeuronX Tracing API for Inference" and "PyTorch NeuronX Lazy and Asynchronous Loading API",
  release 2.28.1.
- torch-neuron, archived: "PyTorch-Neuron trace python API", which documents each keyword but accepts `**kwargs`.
"""

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any

from model_build.neuron_encoder.recipe import Target


def _signature(
    *positional: str, ignored: str | None = None, keywords: Mapping[str, Any] | None = None, more: str | None = None
) -> Signature:
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in positional]
    if ignored:
        parameters.append(Parameter(ignored, Parameter.VAR_POSITIONAL))
    parameters += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in (keywords or {}).items()
    ]
    if more:
        parameters.append(Parameter(more, Parameter.VAR_KEYWORD))
    return Signature(parameters)


TORCH_NEURONX: Mapping[str, Signature] = {
    "trace": _signature(
        "func",
        "example_inputs",
        ignored="_",
        keywords={
            "input_output_aliases": {},
            "compiler_workdir": None,
            "compiler_args": None,
            "partitioner_config": None,
            "inline_weights_to_neff": True,
            "cpu_backend": False,
        },
    ),
    "dynamic_batch": _signature("neuron_script"),
    "async_load": Signature(
        [
            Parameter("trace", Parameter.POSITIONAL_OR_KEYWORD),
            Parameter("enable_async_load", Parameter.POSITIONAL_OR_KEYWORD, default=True),
        ]
    ),
}
TORCH_NEURON: Mapping[str, Signature] = {"trace": _signature("model", "example_inputs", more="kwargs")}
TORCH_NEURON_TRACE_KEYWORDS = frozenset(
    {
        "compiler_args",
        "compiler_timeout",
        "compiler_workdir",
        "subgraph_builder_function",
        "minimum_segment_size",
        "single_fusion_ratio_threshold",
        "fallback",
        "dynamic_batch_size",
        "optimizations",
    }
)
"""Keywords of `torch_neuron.trace`. It passes others on to `torch.jit.trace`, which would report a misspelled one."""
DOCUMENTED: Mapping[Target, Mapping[str, Signature]] = {"inf2": TORCH_NEURONX, "inf1": TORCH_NEURON}


def check_call(target: Target, function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError for a call that the documented function would refuse, or accept and ignore."""
    bound = DOCUMENTED[target][function].bind(*args, **kwargs)
    if ignored := bound.arguments.get("_"):
        raise TypeError(f"{function} ignores {len(ignored)} extra positional arguments: pass them by keyword")
    for name in bound.arguments.get("kwargs", {}):
        if name not in TORCH_NEURON_TRACE_KEYWORDS:
            raise TypeError(f"{function} documents no keyword {name!r}")
