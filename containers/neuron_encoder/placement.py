"""Which process has which NeuronCores: a pure function of the instance type and of what it is to hold."""

from collections.abc import Callable
from dataclasses import dataclass

from containers.neuron_encoder.instances import CORES_PER_DEVICE, INSTANCES, NeuronInstance, neuron_instance

FIRST_PORT = 8081
"""Of the first process; the published servers count from here, one port a NeuronCore."""
_LAST_PORT = 65535
_GIB = 2**30


class PlacementError(ValueError):
    """What is asked for does not fit the instance; the message says what does not, and what would."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an instance is to hold.

    models: that every process loads, so that one core serves them in turn. cores_per_copy: NeuronCores of a process.
    copies: processes; None takes as many as the instance has cores for.
    host_bytes, device_bytes: memory of one process on the host, and of one model in one process on the accelerator.
    """

    models: int = 1
    cores_per_copy: int = 1
    copies: int | None = None
    host_bytes: int = 0
    device_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One server: its NeuronCores and the devices that they are on, counted from 0, its port, and host threads."""

    index: int
    cores: tuple[int, ...]
    devices: tuple[int, ...]
    port: int
    threads: int
    models: int

    @property
    def visible_cores(self) -> str:
        """NEURON_RT_VISIBLE_CORES: a core, or the first and the last of a range."""
        first, last = self.cores[0], self.cores[-1]
        return str(first) if first == last else f"{first}-{last}"

    @property
    def device_paths(self) -> tuple[str, ...]:
        """What a container of this process must be given."""
        return tuple(f"/dev/neuron{device}" for device in self.devices)


@dataclass(frozen=True, slots=True)
class Placement:
    """The processes of an instance. idle_cores: NeuronCores that no process has."""

    instance: NeuronInstance
    processes: tuple[Process, ...]

    @property
    def idle_cores(self) -> tuple[int, ...]:
        """In ascending order; empty unless fewer copies were asked for than fit."""
        used = {core for process in self.processes for core in process.cores}
        return tuple(core for core in range(self.instance.cores) if core not in used)


def place(instance_type: str, demand: Demand, *, first_port: int = FIRST_PORT) -> Placement:
    """Packs processes onto an instance's NeuronCores, each on as few devices as can be.

    Raises PlacementError for what does not fit, and ValueError for an unknown instance type.
    """
    instance = neuron_instance(instance_type)
    _check_counts(demand)
    per_copy = demand.cores_per_copy
    if per_copy > instance.cores:
        raise PlacementError(
            f"cores_per_copy is {per_copy}: {instance.name} has {instance.cores} NeuronCores; give at most "
            f"{instance.cores}, or use {_smallest(lambda other: other.cores >= per_copy, instance)}"
        )
    sound = _sound_groups(instance)
    if per_copy not in sound:
        raise PlacementError(
            f"cores_per_copy is {per_copy}: groups of {per_copy} of {instance.cores} NeuronCores ({instance.name}) "
            f"leave some idle or lie across devices of {CORES_PER_DEVICE[instance.generation]} unevenly; give one of "
            f"{', '.join(map(str, sound))}"
        )
    room = instance.cores // per_copy
    copies = room if demand.copies is None else demand.copies
    if copies > room:
        raise PlacementError(
            f"copies is {copies}: {instance.name} has {instance.cores} NeuronCores, {per_copy} a copy, and holds "
            f"{room}; give at most {room}, or use "
            f"{_smallest(lambda other: other.cores // per_copy >= copies, instance)}"
        )
    _check_ports(first_port, copies)
    _check_memory(instance, demand, copies)
    threads = max(1, instance.vcpus // copies)
    return Placement(
        instance,
        tuple(
            _process(index, per_copy, CORES_PER_DEVICE[instance.generation], first_port, threads, demand.models)
            for index in range(copies)
        ),
    )


def _process(index: int, per_copy: int, per_device: int, first_port: int, threads: int, models: int) -> Process:
    cores = tuple(range(index * per_copy, (index + 1) * per_copy))
    devices = tuple(sorted({core // per_device for core in cores}))
    return Process(index, cores, devices, first_port + index, threads, models)


def _check_counts(demand: Demand) -> None:
    for name, value in (
        ("models", demand.models),
        ("cores_per_copy", demand.cores_per_copy),
        ("copies", demand.copies),
    ):
        if value is not None and value < 1:
            raise PlacementError(f"{name} is {value}: give 1 or more")
    for name, size in (("host_bytes", demand.host_bytes), ("device_bytes", demand.device_bytes)):
        if size < 0:
            raise PlacementError(f"{name} is {size}: give 0 or more")


def _check_ports(first_port: int, copies: int) -> None:
    if not 1024 <= first_port <= _LAST_PORT - copies + 1:
        raise PlacementError(
            f"first_port is {first_port}: {copies} processes need as many ports from it on; give 1024 to "
            f"{_LAST_PORT - copies + 1}"
        )


def _check_memory(instance: NeuronInstance, demand: Demand, copies: int) -> None:
    host = instance.memory_gib * _GIB
    if copies * demand.host_bytes > host:
        fit = host // demand.host_bytes
        raise PlacementError(
            f"copies is {copies} of {demand.host_bytes / _GIB:.1f} GiB on the host: {instance.name} has "
            f"{instance.memory_gib} GiB, room for {fit}; "
            f"{_fewer(fit)}use {_smallest(lambda other: _host_fits(other, demand, copies), instance)}"
        )
    # A device's memory serves the processes on its cores; a process on several devices has the model on each core.
    per_device = CORES_PER_DEVICE[instance.generation]
    resident = min(per_device, copies * demand.cores_per_copy) * demand.models * demand.device_bytes
    memory = instance.device_memory_gib // instance.devices * _GIB
    if resident > memory:
        fit = memory // (resident // demand.models)
        raise PlacementError(
            f"models is {demand.models} of {demand.device_bytes / _GIB:.1f} GiB on the accelerator: a device of "
            f"{instance.name} has {memory // _GIB} GiB for {per_device} NeuronCores, room for {fit} on each; "
            f"{f'give at most {fit}, or ' if fit else ''}use a smaller model"
        )


def _host_fits(instance: NeuronInstance, demand: Demand, copies: int) -> bool:
    return instance.memory_gib * _GIB >= copies * demand.host_bytes and instance.cores >= copies * demand.cores_per_copy


def _fewer(fit: int) -> str:
    return f"give at most {fit}, or " if fit else ""


def _sound_groups(instance: NeuronInstance) -> list[int]:
    """Sizes of groups that use every core, and of which each lies within a device or fills whole ones."""
    per_device = CORES_PER_DEVICE[instance.generation]
    return [
        size
        for size in range(1, instance.cores + 1)
        if instance.cores % size == 0 and (per_device % size == 0 or size % per_device == 0)
    ]


def _smallest(fits: Callable[[NeuronInstance], bool], like: NeuronInstance) -> str:
    """The smallest size of the same generation for which that holds, or words for there being none."""
    same = [other for other in INSTANCES.values() if other.generation == like.generation and fits(other)]
    return (
        min(same, key=lambda other: other.cores).name if same else f"several instances: no {like.generation} has more"
    )
