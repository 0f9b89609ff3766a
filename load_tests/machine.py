"""Description of the machine that figures come from."""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Return the processor and core count, to label every figure."""
    name = "unknown processor"
    for line in _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {os.cpu_count()} cores"
