"""How far a replica on this machine can follow an instance type's processor."""

_ISA_CAPS = {
    "c5": "AVX512_CORE",
    "m5": "AVX512_CORE",
    "r5": "AVX512_CORE",
    "c6i": "AVX512_CORE_VNNI",
    "m6i": "AVX512_CORE_VNNI",
}
"""ONEDNN_MAX_CPU_ISA by family: Skylake, which C5 may be, has no VNNI; Ice Lake has VNNI but no bfloat16."""


def onednn_max_cpu_isa(instance_type: str) -> str | None:
    """The cap that a replica of that instance type gets; None for none."""
    return _ISA_CAPS.get(instance_type.split(".")[1])
