"""What tests need of the processor that they run on."""

import pytest

from containers.serving.cpu import instruction_sets

needs_vnni = pytest.mark.skipif(
    "avx512_vnni" not in instruction_sets(), reason="the engine vnni needs a processor with AVX-512 VNNI"
)
needs_int8 = pytest.mark.skipif(
    not instruction_sets() & {"avx512_vnni", "avx_vnni", "amx_int8"},
    reason="INT8 models are built only where they run: on a processor with AVX-512 VNNI, AVX-VNNI or AMX",
)
