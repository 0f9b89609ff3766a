"""The processor available to this container: cores from the cgroup, instruction sets from the kernel."""

import os
from functools import cache
from pathlib import Path

_CAPPED_BY_ONEDNN_ISA = {
    "AVX2": {"avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"},
    "AVX512_CORE": {"avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"},
    "AVX512_CORE_VNNI": {"avx512_bf16", "amx_int8", "amx_bf16"},
    "AVX512_CORE_BF16": {"amx_int8", "amx_bf16"},
}
"""Instruction sets above each value of ONEDNN_MAX_CPU_ISA (oneDNN developer guide, "CPU Dispatcher Control")."""

INT8_INSTRUCTION_SETS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instruction sets for INT8 models of OpenVINO and ONNX Runtime, which need at least one of them."""
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the whole cores that this process may use, at least 1.

    This is the smaller of its CPU affinity and the cgroup's CPU quota. The host's core count is ignored: inside a
    limited container it leads to far too many threads.
    """
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(cgroup)
    return max(1, min(cores, int(quota))) if quota is not None else cores


def _cgroup_quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        return limit_us / period_us if limit_us > 0 else None
    except (OSError, ValueError):
        return None


@cache
def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the members of INSTRUCTION_SETS that engines may use here, named as in /proc/cpuinfo.

    Sets above ONEDNN_MAX_CPU_ISA count as missing.
    """
    flags: set[str] = set()
    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                break
    except OSError:
        return frozenset()
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return frozenset(flags & set(INSTRUCTION_SETS)) - _CAPPED_BY_ONEDNN_ISA.get(cap, set())
