"""Placement uses every NeuronCore once, leaves none idle that could be used, and says what would fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.neuron_encoder.instances import CORES_PER_DEVICE, INSTANCES, neuron_instance
from containers.neuron_encoder.placement import FIRST_PORT, Demand, PlacementError, place

GIB = 2**30
INSTANCE_TYPES = st.sampled_from(sorted(INSTANCES))
DEMANDS = st.builds(
    Demand,
    models=st.integers(1, 4),
    cores_per_copy=st.integers(1, 8),
    copies=st.one_of(st.none(), st.integers(1, 70)),
    host_bytes=st.integers(0, 4 * GIB),
    device_bytes=st.integers(0, 4 * GIB),
)


@given(INSTANCE_TYPES, DEMANDS)
def test_every_core_is_used_at_most_once_and_devices_match_cores(instance_type: str, demand: Demand) -> None:
    try:
        placement = place(instance_type, demand)
    except PlacementError:
        return
    cores = [core for process in placement.processes for core in process.cores]
    assert len(cores) == len(set(cores))
    assert set(cores) <= set(range(placement.instance.cores))
    per_device = CORES_PER_DEVICE[placement.instance.generation]
    for process in placement.processes:
        assert set(process.devices) == {core // per_device for core in process.cores}
        assert len(process.cores) == demand.cores_per_copy
        # A model over more cores than a device has fills whole devices; another lies on one.
        assert len(process.devices) == max(1, demand.cores_per_copy // per_device)


@given(INSTANCE_TYPES, DEMANDS)
def test_no_core_is_idle_that_could_be_used(instance_type: str, demand: Demand) -> None:
    try:
        placement = place(instance_type, demand)
    except PlacementError:
        return
    if demand.copies is None:
        assert placement.idle_cores == ()
    else:
        assert len(placement.processes) == demand.copies


@given(INSTANCE_TYPES, DEMANDS)
def test_ports_are_in_sequence_and_threads_fit_the_host(instance_type: str, demand: Demand) -> None:
    try:
        placement = place(instance_type, demand)
    except PlacementError:
        return
    count = len(placement.processes)
    assert [process.port for process in placement.processes] == list(range(FIRST_PORT, FIRST_PORT + count))
    assert all(process.threads >= 1 for process in placement.processes)
    if count <= placement.instance.vcpus:
        assert sum(process.threads for process in placement.processes) <= placement.instance.vcpus


@given(INSTANCE_TYPES, DEMANDS)
def test_what_is_placed_fits_the_memory_of_host_and_devices(instance_type: str, demand: Demand) -> None:
    try:
        placement = place(instance_type, demand)
    except PlacementError:
        return
    instance = placement.instance
    assert len(placement.processes) * demand.host_bytes <= instance.memory_gib * GIB
    for device in range(instance.devices):
        on_device = [
            core
            for process in placement.processes
            for core in process.cores
            if core // CORES_PER_DEVICE[instance.generation] == device
        ]
        held = len(on_device) * demand.models * demand.device_bytes
        assert held <= instance.device_memory_gib // instance.devices * GIB


@pytest.mark.parametrize(
    ("instance_type", "devices", "cores", "vcpus", "host_gib", "device_gib"),
    [
        ("inf1.xlarge", 1, 4, 4, 8, 8),
        ("inf1.2xlarge", 1, 4, 8, 16, 8),
        ("inf1.6xlarge", 4, 16, 24, 48, 32),
        ("inf1.24xlarge", 16, 64, 96, 192, 128),
        ("inf2.xlarge", 1, 2, 4, 16, 32),
        ("inf2.8xlarge", 1, 2, 32, 128, 32),
        ("inf2.24xlarge", 6, 12, 96, 384, 192),
        ("ml.inf2.48xlarge", 12, 24, 192, 768, 384),
    ],
)
def test_the_instance_table_keeps_the_hosts_memory_apart_from_the_accelerators(
    instance_type: str, devices: int, cores: int, vcpus: int, host_gib: int, device_gib: int
) -> None:
    found = neuron_instance(instance_type)
    assert (found.devices, found.cores, found.vcpus, found.memory_gib) == (devices, cores, vcpus, host_gib)
    assert found.device_memory_gib == device_gib


def test_visible_cores_and_devices_are_as_the_runtime_takes_them() -> None:
    one = place("inf1.6xlarge", Demand()).processes
    # The published scripts divide by four on every chip and read only the first digit of a core's number.
    assert (one[11].visible_cores, one[11].device_paths, one[11].port) == ("11", ("/dev/neuron2",), 8092)
    two = place("inf2.24xlarge", Demand(cores_per_copy=2)).processes
    assert (two[5].visible_cores, two[5].device_paths, two[5].threads) == ("10-11", ("/dev/neuron5",), 16)
    wide = place("inf2.24xlarge", Demand(cores_per_copy=4)).processes
    assert (wide[1].visible_cores, wide[1].device_paths) == ("4-7", ("/dev/neuron2", "/dev/neuron3"))


@pytest.mark.parametrize(
    ("instance_type", "demand", "parts"),
    [
        ("inf2.xlarge", Demand(copies=3), ["copies is 3", "fits 2", "use inf2.24xlarge"]),
        ("inf2.xlarge", Demand(cores_per_copy=4), ["cores_per_copy is 4", "has 2 NeuronCores", "use inf2.24xlarge"]),
        ("inf2.24xlarge", Demand(cores_per_copy=5), ["groups of 5 of the 12", "leave some idle", "1, 2, 4, 6, 12"]),
        ("inf2.24xlarge", Demand(cores_per_copy=3), ["split devices of 2 cores unevenly"]),
        ("inf2.48xlarge", Demand(copies=25), ["copies is 25", "no inf2 has more"]),
        (
            "inf1.xlarge",
            Demand(host_bytes=3 * GIB),
            ["3.0 GiB of host memory each", "enough for 2", "use inf1.2xlarge"],
        ),
        ("inf2.xlarge", Demand(host_bytes=20 * GIB), ["enough for 0; use inf2.8xlarge"]),
        ("inf1.xlarge", Demand(models=3, device_bytes=GIB), ["models is 3", "8 GiB for 4 NeuronCores", "at most 2"]),
        ("inf2.xlarge", Demand(models=0), ["models is 0"]),
        ("inf2.xlarge", Demand(copies=0), ["copies is 0"]),
        ("inf2.xlarge", Demand(device_bytes=-1), ["device_bytes is -1"]),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(instance_type: str, demand: Demand, parts: list[str]) -> None:
    with pytest.raises(PlacementError) as raised:
        place(instance_type, demand)
    for part in parts:
        assert part in str(raised.value)


def test_an_instance_without_neuron_cores_is_refused() -> None:
    with pytest.raises(ValueError, match=r"instance_type is 'ml\.c6i\.xlarge': choose a Neuron instance: inf1\.xlarge"):
        place("ml.c6i.xlarge", Demand())


def test_ports_end_at_the_last_there_is() -> None:
    with pytest.raises(PlacementError, match="first_port is 65535"):
        place("inf2.xlarge", Demand(), first_port=65535)
