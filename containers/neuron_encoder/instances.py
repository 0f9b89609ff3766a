"""Neuron instance types: devices, NeuronCores, vCPUs and memory."""

from dataclasses import dataclass
from typing import Literal

Generation = Literal["inf1", "inf2"]
CORES_PER_DEVICE: dict[Generation, int] = {"inf1": 4, "inf2": 2}
DEVICE_MEMORY_GIB: dict[Generation, int] = {"inf1": 8, "inf2": 32}
"""Memory per device: 8 GiB of DRAM on Inferentia, 32 GiB of HBM on Inferentia2 (Neuron documentation, architecture)."""


@dataclass(frozen=True, slots=True)
class NeuronInstance:
    """A Neuron instance type.

    devices: number of accelerators.
    memory_gib: memory of the host, not of the accelerators.
    """

    size: str
    generation: Generation
    devices: int
    vcpus: int
    memory_gib: int

    @property
    def name(self) -> str:
        """Return EC2's name, for example `inf2.xlarge`."""
        return f"{self.generation}.{self.size}"

    @property
    def cores(self) -> int:
        """Return the NeuronCores of all devices."""
        return self.devices * CORES_PER_DEVICE[self.generation]

    @property
    def device_memory_gib(self) -> int:
        """Return the accelerator memory of all devices, in GiB."""
        return self.devices * DEVICE_MEMORY_GIB[self.generation]


_TABLE = (
    NeuronInstance("xlarge", "inf1", 1, 4, 8),
    NeuronInstance("2xlarge", "inf1", 1, 8, 16),
    NeuronInstance("6xlarge", "inf1", 4, 24, 48),
    NeuronInstance("24xlarge", "inf1", 16, 96, 192),
    NeuronInstance("xlarge", "inf2", 1, 4, 16),
    NeuronInstance("8xlarge", "inf2", 1, 32, 128),
    NeuronInstance("24xlarge", "inf2", 6, 96, 384),
    NeuronInstance("48xlarge", "inf2", 12, 192, 768),
)
"""Source: EC2 instance type tables of Inf1 and Inf2. In places, the published table gives host memory as accelerator
memory."""
INSTANCES = {instance.name: instance for instance in _TABLE}


def neuron_instance(instance_type: str) -> NeuronInstance:
    """Return the instance type with EC2's or SageMaker's name (`inf2.xlarge`, `ml.inf2.xlarge`); raises ValueError."""
    instance = INSTANCES.get(instance_type.removeprefix("ml."))
    if instance is None:
        raise ValueError(f"instance_type is {instance_type!r}: choose a Neuron instance: {', '.join(INSTANCES)}")
    return instance
