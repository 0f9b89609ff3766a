"""Replicas follow the instance type as far as they can; metrics stay within CloudWatch's limits."""

import pytest

from local_aws.hosting.metrics import _rounded
from local_aws.instances import onednn_max_cpu_isa
from sizing.instances import instance


@pytest.mark.parametrize(
    ("name", "vcpus", "memory", "cap"),
    [
        ("ml.c5.2xlarge", 8, 16, "AVX512_CORE"),
        ("ml.c6i.xlarge", 4, 8, "AVX512_CORE_VNNI"),
        ("ml.m5.large", 2, 8, "AVX512_CORE"),
        ("ml.c7i.4xlarge", 16, 32, None),
    ],
)
def test_an_instance_type_gives_cores_memory_and_instruction_set(
    name: str, vcpus: int, memory: float, cap: str | None
) -> None:
    found = instance(name)
    assert (found.vcpus, found.memory_gib, onednn_max_cpu_isa(name)) == (vcpus, memory, cap)


def test_latencies_are_rounded_to_half_a_percent() -> None:
    for value in (0.0, 7.0, 123456.0, 98765.4):
        assert _rounded(value) == pytest.approx(value, rel=0.005)
