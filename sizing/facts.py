"""Assumptions about a workload before anything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """Defaults of `inference size`, named like its options.

    payload_mib: size of the larger of request and response, in MiB.
    memory_gib: resident memory of the container with its model, in GiB, rounded up.
    models: number of models that share the container.
    accelerator: whether the model needs an accelerator.
    """

    payload_mib: float
    memory_gib: float
    models: int = 1
    accelerator: bool = False
