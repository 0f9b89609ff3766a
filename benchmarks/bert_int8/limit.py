"""What the processor could do at the most: the roof over an INT8 BERT-base."""

import subprocess
from pathlib import Path

from containers.serving.cpu import instruction_sets

_LINEAR, _QUADRATIC = 169_872_384, 36_864
"""Operations of BERT-base for a token and for a pair of tokens: twice the multiplications of twelve layers of width 768
with 3,072 inside, and of the answer's two outputs (24 * (4 * 768**2 + 2 * 768 * 3072) + 4 * 768, and 12 * 4 * 768)."""


def operations(length: int) -> int:
    """Multiplications and additions of one sequence of so many tokens."""
    return _LINEAR * length + _QUADRATIC * length**2


def peak_gigaoperations(folder: Path) -> float | None:
    """INT8 operations of one core in a second, measured; None without AVX-512 VNNI or a C compiler."""
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
