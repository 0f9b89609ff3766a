"""Peak INT8 rate of one core: the upper limit for every quantized model."""

import subprocess
from pathlib import Path

from containers.serving.cpu import instruction_sets


def peak_gigaoperations(folder: Path) -> float | None:
    """Measure the INT8 operations per second of one core, in 10**9; None without AVX-512 VNNI or a C compiler."""
    if "avx512_vnni" not in instruction_sets():
        return None
    program = folder / "peak"
    try:
        subprocess.run(
            ["cc", "-O3", "-mavx512f", "-mavx512vnni", "-o", str(program), str(Path(__file__).with_name("peak.c"))],
            check=True,
            capture_output=True,
        )
        done = subprocess.run([str(program)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return float(done.stdout)
