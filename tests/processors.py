"""What tests need of the processor that they run on."""

import pytest

from containers.serving.cpu import INT8_INSTRUCTION_SETS, instruction_sets

needs_vnni = pytest.mark.skipif(
    "avx512_vnni" not in instruction_sets(), reason="the engine vnni needs a processor with AVX-512 VNNI"
)
needs_int8 = pytest.mark.skipif(
    not instruction_sets().intersection(INT8_INSTRUCTION_SETS),
    reason="INT8 models are built only where they run: on a processor with AVX-512 VNNI, AVX-VNNI or AMX",
)
