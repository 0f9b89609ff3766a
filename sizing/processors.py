"""The processors of SageMaker's instance types, and the instruction sets that inference engines choose by."""

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["x86_64", "arm64"]
InstructionSet = Literal["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"]
"""Named as in /proc/cpuinfo."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A generation of processors; its instruction sets are those that engines here distinguish."""

    name: str
    architecture: Architecture
    instruction_sets: frozenset[InstructionSet] = frozenset()


_AVX2: frozenset[InstructionSet] = frozenset({"avx2"})
_AVX512: frozenset[InstructionSet] = _AVX2 | {"avx512f"}
_VNNI: frozenset[InstructionSet] = _AVX512 | {"avx512_vnni"}
_AMX: frozenset[InstructionSet] = _VNNI | {"avx512_bf16", "amx_int8"}

HASWELL = Processor("Intel Haswell", "x86_64", _AVX2)
BROADWELL = Processor("Intel Broadwell", "x86_64", _AVX2)
SKYLAKE = Processor("Intel Skylake", "x86_64", _AVX512)
CASCADE_LAKE = Processor("Intel Cascade Lake", "x86_64", _VNNI)
ICE_LAKE = Processor("Intel Ice Lake", "x86_64", _VNNI)
SAPPHIRE_RAPIDS = Processor("Intel Sapphire Rapids", "x86_64", _AMX)
EMERALD_RAPIDS = Processor("Intel Emerald Rapids", "x86_64", _AMX)
GRANITE_RAPIDS = Processor("Intel Granite Rapids", "x86_64", _AMX)
ROME = Processor("AMD EPYC Rome", "x86_64", _AVX2)
MILAN = Processor("AMD EPYC Milan", "x86_64", _AVX2)
GRAVITON2 = Processor("AWS Graviton2", "arm64")
GRAVITON3 = Processor("AWS Graviton3", "arm64")
GRAVITON4 = Processor("AWS Graviton4", "arm64")
GRACE = Processor("NVIDIA Grace", "arm64")
