"""Compile the encoder."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from model_build.errors import BuildError

SOURCE = Path(__file__).parent / "encoder.cc"
_FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti", "-nostdlib++", "-fwrapv",
    "-fno-sanitize=undefined", "-Wall", "-Wextra", "-Werror", "-s",
)  # fmt: skip
_TARGET = ("-target", "x86_64-linux-gnu.2.28", "-mcpu=cascadelake")
"""The oldest maintained C library (glibc 2.28), and the first processors with AVX-512 VNNI (Cascade Lake)."""


def compile_encoder(library: Path) -> None:
    """Compile the encoder with the C++ compiler of the PyPI package ziglang.

    Raises BuildError with the compiler's message.
    """
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "c++", *_FLAGS, *_TARGET, "-o", str(library), str(SOURCE)],
            env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    if done.returncode:
        raise BuildError(f"the encoder did not compile: {done.stderr.strip()[-2000:]}")
