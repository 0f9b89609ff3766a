"""How closely a replica on this machine can match an instance type's processor."""

from sizing.instances import instance

_CAPS = (
    ("amx_int8", None),
    ("avx512_bf16", "AVX512_CORE_BF16"),
    ("avx512_vnni", "AVX512_CORE_VNNI"),
    ("avx512f", "AVX512_CORE"),
    ("avx2", "AVX2"),
)
"""ONEDNN_MAX_CPU_ISA by the newest instruction set of every machine of a family; None is no cap."""


def onednn_max_cpu_isa(instance_type: str) -> str | None:
    """Return the instruction set cap for replicas of an instance type; None for no cap, and for Arm."""
    available = instance(instance_type).family.instruction_sets
    return next((cap for name, cap in _CAPS if name in available), None)
