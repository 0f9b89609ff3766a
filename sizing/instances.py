"""What an instance type has: vCPUs and memory."""

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
"""Sizes with more than the one GPU that every other size of the family has."""


@dataclass(frozen=True, slots=True)
class Instance:
    """vcpus; memory_gib; accelerators: how many GPUs or the like, None where that is not recorded here."""

    name: str
    vcpus: int
    memory_gib: float
    accelerators: int | None = None

    @property
    def family(self) -> str:
        """`c6i` of `ml.c6i.2xlarge`."""
        return self.name.split(".")[1]

    @property
    def processor(self) -> Literal["cpu", "gpu"]:
        """What AWS's own images are made for: "gpu" of the families G and P."""
        return "gpu" if self.family[0] in "gp" else "cpu"

    @property
    def memory_bytes(self) -> int:
        """What a container on it may use, at the most."""
        return int(self.memory_gib * 2**30)


def instance(name: str) -> Instance:
    """The instance type of that name (EC2 instance type tables); unknown sizes count as 2xlarge."""
    _, family, size = name.split(".")
    vcpus = _VCPUS.get(size, 8)
    gpus = _MANY_GPUS[family].get(size, 1) if family in _MANY_GPUS else None
    accelerators = 0 if family[0] in "cmrt" and family[:3] != "trn" else gpus
    return Instance(name, vcpus, vcpus * _GIB_PER_VCPU.get(family[0], 4.0), accelerators)
