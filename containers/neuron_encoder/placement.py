"""Placement of processes on NeuronCores, as a pure function of the instance type and the demand."""

from collections.abc import Callable
from dataclasses import dataclass

from containers.neuron_encoder.instances import CORES_PER_DEVICE, INSTANCES, NeuronInstance, neuron_instance

FIRST_PORT = 8081
"""Port of the first process; the published servers count from it, with one port per NeuronCore."""
_LAST_PORT = 65535
_GIB = 2**30


class PlacementError(ValueError):
    """A demand that does not fit the instance; the message says which part does not, and what would fit."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The processes that an instance must hold.

    models: models loaded by every process; its core serves them in turn.
    cores_per_copy: NeuronCores per process.
    copies: number of processes; None fills the instance's cores.
    host_bytes: host memory of one process.
    device_bytes: accelerator memory of one model in one process.
    """

    models: int = 1
    cores_per_copy: int = 1
    copies: int | None = None
    host_bytes: int = 0
    device_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One server process.

    cores, devices: its NeuronCores and their devices, numbered from 0.
    threads: its host threads.
    """

    index: int
    cores: tuple[int, ...]
    devices: tuple[int, ...]
    port: int
    threads: int
    models: int

    @property
    def visible_cores(self) -> str:
        """Return the value of NEURON_RT_VISIBLE_CORES: a core, or the first and last core of a range."""
        first, last = self.cores[0], self.cores[-1]
        return str(first) if first == last else f"{first}-{last}"

    @property
    def device_paths(self) -> tuple[str, ...]:
        """Return the device files that a container of this process needs."""
        return tuple(f"/dev/neuron{device}" for device in self.devices)


@dataclass(frozen=True, slots=True)
class Placement:
    """The processes of an instance."""

    instance: NeuronInstance
    processes: tuple[Process, ...]

    @property
    def idle_cores(self) -> tuple[int, ...]:
        """Return the NeuronCores without a process, in ascending order; empty unless fewer copies run than fit."""
        used = {core for process in self.processes for core in process.cores}
        return tuple(core for core in range(self.instance.cores) if core not in used)


def place(instance_type: str, demand: Demand, *, first_port: int = FIRST_PORT) -> Placement:
    """Place processes on an instance's NeuronCores, each on as few devices as possible.

    Raises PlacementError for a demand that does not fit, and ValueError for an unknown instance type.
    """
    instance = neuron_instance(instance_type)
    _check_counts(demand)
    per_copy = demand.cores_per_copy
    if per_copy > instance.cores:
        raise PlacementError(
            f"cores_per_copy is {per_copy}: {instance.name} has {instance.cores} NeuronCores; set at most "
            f"{instance.cores}, or use {_smallest(lambda other: other.cores >= per_copy, instance)}"
        )
    sound = _sound_groups(instance)
    if per_copy not in sound:
        raise PlacementError(
            f"cores_per_copy is {per_copy}: groups of {per_copy} of the {instance.cores} NeuronCores of "
            f"{instance.name} leave some idle or split devices of {CORES_PER_DEVICE[instance.generation]} cores "
            f"unevenly; set one of {', '.join(map(str, sound))}"
        )
    room = instance.cores // per_copy
    copies = room if demand.copies is None else demand.copies
    if copies > room:
        raise PlacementError(
            f"copies is {copies}: {instance.name} has {instance.cores} NeuronCores, {per_copy} per copy, and fits "
            f"{room}; set at most {room}, or use "
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
            raise PlacementError(f"{name} is {value}: set 1 or more")
    for name, size in (("host_bytes", demand.host_bytes), ("device_bytes", demand.device_bytes)):
        if size < 0:
            raise PlacementError(f"{name} is {size}: set 0 or more")


def _check_ports(first_port: int, copies: int) -> None:
    if not 1024 <= first_port <= _LAST_PORT - copies + 1:
        raise PlacementError(
            f"first_port is {first_port}: {copies} processes need consecutive ports from it; set 1024 to "
            f"{_LAST_PORT - copies + 1}"
        )


def _check_memory(instance: NeuronInstance, demand: Demand, copies: int) -> None:
    host = instance.memory_gib * _GIB
    if copies * demand.host_bytes > host:
        fit = host // demand.host_bytes
        raise PlacementError(
            f"copies is {copies} at {demand.host_bytes / _GIB:.1f} GiB of host memory each: {instance.name} has "
            f"{instance.memory_gib} GiB, enough for {fit}; "
            f"{_fewer(fit)}use {_smallest(lambda other: _host_fits(other, demand, copies), instance)}"
        )
    # The processes on a device's cores share its memory. A process on several cores has the model on each core.
    per_device = CORES_PER_DEVICE[instance.generation]
    resident = min(per_device, copies * demand.cores_per_copy) * demand.models * demand.device_bytes
    memory = instance.device_memory_gib // instance.devices * _GIB
    if resident > memory:
        fit = memory // (resident // demand.models)
        raise PlacementError(
            f"models is {demand.models} at {demand.device_bytes / _GIB:.1f} GiB of accelerator memory each: a device "
            f"of {instance.name} has {memory // _GIB} GiB for {per_device} NeuronCores, enough for {fit} on each; "
            f"{f'set at most {fit}, or ' if fit else ''}use a smaller model"
        )


def _host_fits(instance: NeuronInstance, demand: Demand, copies: int) -> bool:
    return instance.memory_gib * _GIB >= copies * demand.host_bytes and instance.cores >= copies * demand.cores_per_copy


def _fewer(fit: int) -> str:
    return f"set at most {fit}, or " if fit else ""


def _sound_groups(instance: NeuronInstance) -> list[int]:
    """Return the group sizes that use every core, with each group inside one device or filling whole devices."""
    per_device = CORES_PER_DEVICE[instance.generation]
    return [
        size
        for size in range(1, instance.cores + 1)
        if instance.cores % size == 0 and (per_device % size == 0 or size % per_device == 0)
    ]


def _smallest(fits: Callable[[NeuronInstance], bool], like: NeuronInstance) -> str:
    """Return the name of the smallest fitting size of the same generation, or text for the case of none."""
    same = [other for other in INSTANCES.values() if other.generation == like.generation and fits(other)]
    return (
        min(same, key=lambda other: other.cores).name if same else f"several instances: no {like.generation} has more"
    )
