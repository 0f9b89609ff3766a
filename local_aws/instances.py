"""What an endpoint instance type has, as far as a replica on this machine can follow it."""

from dataclasses import dataclass

_VCPUS = {"medium": 1, "large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "9xlarge": 36}
_GIB_PER_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0}
_ISA_CAPS = {
    "c5": "AVX512_CORE",
    "m5": "AVX512_CORE",
    "r5": "AVX512_CORE",
    "c6i": "AVX512_CORE_VNNI",
    "m6i": "AVX512_CORE_VNNI",
}
"""ONEDNN_MAX_CPU_ISA by family: Skylake, which C5 may be, has no VNNI; Ice Lake has VNNI but no bfloat16."""


@dataclass(frozen=True, slots=True)
class Instance:
    """vcpus; memory_gib; onednn_max_cpu_isa: the cap a replica gets, None for none."""

    name: str
    vcpus: int
    memory_gib: float
    onednn_max_cpu_isa: str | None

    @property
    def memory_bytes(self) -> int:
        """What a container on it may use, at the most."""
        return int(self.memory_gib * 2**30)


def instance(name: str) -> Instance:
    """The instance type of that name (EC2 instance type tables); unknown sizes count as 2xlarge."""
    _, family, size = name.split(".")
    vcpus = _VCPUS.get(size, 8)
    return Instance(name, vcpus, vcpus * _GIB_PER_VCPU.get(family[0], 4.0), _ISA_CAPS.get(family))
