"""Which processes this machine gets: by its Neuron devices, or by the settings of virtual cores."""

import re
from pathlib import Path

from containers.neuron_encoder.artifact import NeuronArtifact
from containers.neuron_encoder.instances import CORES_PER_DEVICE, INSTANCES, Generation, NeuronInstance
from containers.neuron_encoder.placement import Demand, PlacementError, Process, place
from containers.neuron_encoder.settings import PREFIX, Settings
from containers.serving.errors import StartupError

_DEVICE = re.compile(r"neuron\d+")
_ANY_PORT = 8081
"""Stands for ports that the kernel is to choose, so that placement can count from it."""


def processes(settings: Settings, artifact: NeuronArtifact, cores: int, dev: Path = Path("/dev")) -> list[Process]:
    """The processes to start, their ports 0 where any will do.

    cores: of the host, for the processes' threads. Raises StartupError for what does not fit.
    """
    if settings.virtual_cores is not None:
        found = _virtual(settings, artifact, settings.virtual_cores, cores)
    else:
        found = _real(settings, artifact, cores, dev)
    if settings.first_port:
        return found
    return [Process(each.index, each.cores, each.devices, 0, each.threads, each.models) for each in found]


def _per_copy(settings: Settings, artifact: NeuronArtifact) -> int:
    return settings.cores_per_copy or artifact.cores_per_copy


def _virtual(settings: Settings, artifact: NeuronArtifact, virtual: int, cores: int) -> list[Process]:
    per_copy = _per_copy(settings, artifact)
    room, left = divmod(virtual, per_copy)
    if left or not room:
        raise StartupError(
            f"{PREFIX}CORES_PER_COPY is {per_copy}: {PREFIX}VIRTUAL_CORES={virtual} is no multiple of it; change one"
        )
    copies = settings.copies or room
    if copies > room:
        raise StartupError(
            f"{PREFIX}COPIES is {copies}: {virtual} virtual cores hold {room} of {per_copy} each; give at most {room}"
        )
    first = settings.first_port or _ANY_PORT
    if first + copies > 65536:
        raise StartupError(f"{PREFIX}FIRST_PORT is {first}: {copies} processes need as many ports from it on")
    threads = max(1, cores // copies)
    return [
        Process(
            index, tuple(range(index * per_copy, (index + 1) * per_copy)), (), first + index, threads, settings.models
        )
        for index in range(copies)
    ]


def _real(settings: Settings, artifact: NeuronArtifact, cores: int, dev: Path) -> list[Process]:
    devices = sum(1 for path in dev.iterdir() if _DEVICE.fullmatch(path.name))
    if artifact.target == "cpu":
        raise StartupError(
            f"the artifact is traced for cpu and {PREFIX}DEVICE is neuron: build it for inf1 or inf2, or set "
            f"{PREFIX}DEVICE=cpu and {PREFIX}VIRTUAL_CORES"
        )
    if not devices:
        raise StartupError(
            f"no Neuron device (/dev/neuron0) is here: use an instance of {artifact.target}, or set {PREFIX}DEVICE to "
            f"cpu or timed and {PREFIX}VIRTUAL_CORES to try without"
        )
    instance_type = settings.instance_type or _instance(artifact.target, devices, cores).name
    demand = Demand(
        models=settings.models,
        cores_per_copy=_per_copy(settings, artifact),
        copies=settings.copies,
        device_bytes=artifact.device_bytes,
    )
    try:
        placed = place(instance_type, demand, first_port=settings.first_port or _ANY_PORT)
    except PlacementError as error:
        raise StartupError(str(error)) from error
    if placed.instance.devices > devices:
        raise StartupError(
            f"{PREFIX}INSTANCE_TYPE is {instance_type!r} with {placed.instance.devices} Neuron devices, {devices} "
            "are here: leave it out, or give the container all of them"
        )
    return list(placed.processes)


def _instance(generation: Generation, devices: int, cores: int) -> NeuronInstance:
    """The size with so many devices and, of several, the one whose vCPUs are nearest to the host's."""
    same = [i for i in INSTANCES.values() if i.generation == generation and i.devices == devices]
    if not same:
        raise StartupError(
            f"{devices} Neuron devices ({devices * CORES_PER_DEVICE[generation]} cores of {generation}) are visible, "
            f"which no size has: give the container all devices of its instance, or set {PREFIX}INSTANCE_TYPE"
        )
    return min(same, key=lambda instance: abs(instance.vcpus - cores))
