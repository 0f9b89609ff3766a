"""vCPUs, memory and accelerators of instance types."""

from dataclasses import dataclass
from typing import Literal

_VCPUS = {
    "medium": 1, "large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "6xlarge": 24, "8xlarge": 32, "9xlarge": 36,
    "12xlarge": 48, "16xlarge": 64, "18xlarge": 72, "24xlarge": 96, "32xlarge": 128, "48xlarge": 192,
}  # fmt: skip
_GIB_PER_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0}
_MANY_GPUS = {
    "g4dn": {"12xlarge": 4},
    "g5": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
}
"""Sizes with more than one GPU; every other size of these families has one."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance type.

    accelerators: number of GPUs or other accelerators; None if not recorded here.
    """

    name: str
    vcpus: int
    memory_gib: float
    accelerators: int | None = None

    @property
    def family(self) -> str:
        """Instance family, such as `c6i` for `ml.c6i.2xlarge`."""
        return self.name.split(".")[1]

    @property
    def processor(self) -> Literal["cpu", "gpu"]:
        """Processor that AWS's own images are built for: "gpu" for the G and P families."""
        return "gpu" if self.family[0] in "gp" else "cpu"

    @property
    def memory_bytes(self) -> int:
        """Upper limit on the memory of a container, in bytes."""
        return int(self.memory_gib * 2**30)


def instance(name: str) -> Instance:
    """Return the instance type with that name (EC2 instance type tables); unknown sizes count as 2xlarge."""
    _, family, size = name.split(".")
    vcpus = _VCPUS.get(size, 8)
    gpus = _MANY_GPUS[family].get(size, 1) if family in _MANY_GPUS else None
    accelerators = 0 if family[0] in "cmrt" and family[:3] != "trn" else gpus
    return Instance(name, vcpus, vcpus * _GIB_PER_VCPU.get(family[0], 4.0), accelerators)
