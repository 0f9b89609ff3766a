"""How closely a replica on this machine can match an instance type's processor."""

_ISA_CAPS = {
    "c5": "AVX512_CORE",
    "m5": "AVX512_CORE",
    "r5": "AVX512_CORE",
    "c6i": "AVX512_CORE_VNNI",
    "m6i": "AVX512_CORE_VNNI",
}
"""ONEDNN_MAX_CPU_ISA by family. Skylake, which C5 may be, has no VNNI; Ice Lake has VNNI but no bfloat16."""


def onednn_max_cpu_isa(instance_type: str) -> str | None:
    """Return the instruction set cap for replicas of an instance type, or None for no cap."""
    return _ISA_CAPS.get(instance_type.split(".")[1])
