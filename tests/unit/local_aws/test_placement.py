"""Copies are placed on as few instances as first-fit finds, and never beyond what an instance has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_aws.hosting.placement import Compute, instances_needed

ROOM = Compute.on("ml.c6i.large")


def copies(count: int, memory_mib: float = 1024, cpu_cores: float = 0.5) -> list[Compute]:
    return [Compute(memory_mib, cpu_cores, 0)] * count


def test_an_instance_type_has_memory_cores_and_accelerators() -> None:
    assert Compute(4096, 2, 0) == ROOM
    assert Compute.on("ml.g5.12xlarge").accelerators == 4
    assert Compute.on("ml.inf2.24xlarge").accelerators == 6


@pytest.mark.parametrize(
    ("wanted", "instances"),
    [
        ([], 0),
        (copies(1), 1),
        (copies(4), 1),
        (copies(5), 2),
        (copies(2, memory_mib=3000), 2),
        (copies(3, cpu_cores=1), 2),
        (copies(1, memory_mib=3000) + copies(2), 2),
        (copies(1, memory_mib=5000), None),
        ([Compute(1024, 0.5, 1)], None),
    ],
)
def test_the_scarcest_of_memory_cores_and_accelerators_decides(wanted: list[Compute], instances: int | None) -> None:
    assert instances_needed(wanted, ROOM) == instances


@settings(derandomize=True)
@given(st.lists(st.tuples(st.floats(128, 4096), st.floats(0.25, 2)), max_size=30))
def test_instances_are_enough_and_at_most_one_for_each_copy(wanted: list[tuple[float, float]]) -> None:
    found = instances_needed([Compute(memory, cores, 0) for memory, cores in wanted], ROOM)
    assert found is not None
    assert found <= len(wanted)
    assert found * ROOM.memory_mib >= sum(memory for memory, _ in wanted) - 1e-6
    assert found * ROOM.cpu_cores >= sum(cores for _, cores in wanted) - 1e-6
