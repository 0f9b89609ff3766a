"""The processes of this machine, from its Neuron devices or from the settings for virtual cores."""

import re
from pathlib import Path

from containers.neuron_encoder.artifact import NeuronArtifact
from containers.neuron_encoder.instances import CORES_PER_DEVICE, INSTANCES, Generation, NeuronInstance
from containers.neuron_encoder.placement import Demand, PlacementError, Process, place
from containers.neuron_encoder.settings import PREFIX, Settings
from containers.serving.errors import StartupError

_DEVICE = re.compile(r"neuron\d+")
_ANY_PORT = 8081
"""Placeholder for ports that the kernel chooses, so placement has a number to count from."""


def processes(settings: Settings, artifact: NeuronArtifact, cores: int, dev: Path = Path("/dev")) -> list[Process]:
    """Return the processes to start, with port 0 if the kernel chooses the ports.

    cores: cores of the host, which the processes' threads share. Raises StartupError for processes that do not fit.
    """
    if settings.virtual_cores is not None:
        placed = _virtual(settings, artifact, settings.virtual_cores, cores)
    else:
        placed = _real(settings, artifact, cores, dev)
    if settings.first_port:
        return placed
    return [Process(each.index, each.cores, each.devices, 0, each.threads, each.models) for each in placed]


def _per_copy(settings: Settings, artifact: NeuronArtifact) -> int:
    return settings.cores_per_copy or artifact.cores_per_copy


def _virtual(settings: Settings, artifact: NeuronArtifact, virtual: int, cores: int) -> list[Process]:
    per_copy = _per_copy(settings, artifact)
    room, left = divmod(virtual, per_copy)
    if left or not room:
        raise StartupError(
            f"{PREFIX}CORES_PER_COPY is {per_copy}: {PREFIX}VIRTUAL_CORES={virtual} must be a multiple of it; change "
            "one of them"
        )
    copies = settings.copies or room
    if copies > room:
        raise StartupError(
            f"{PREFIX}COPIES is {copies}: {virtual} virtual cores fit {room} copies of {per_copy} each; set at most "
            f"{room}"
        )
    first = settings.first_port or _ANY_PORT
    if first + copies > 65536:
        raise StartupError(
            f"{PREFIX}FIRST_PORT is {first}: {copies} processes need consecutive ports from it, up to 65535; set at "
            f"most {65536 - copies}"
        )
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
            f"this machine has no Neuron device (/dev/neuron0): use an instance of {artifact.target}, or set "
            f"{PREFIX}DEVICE to cpu or timed and {PREFIX}VIRTUAL_CORES to run without one"
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
            f"{PREFIX}INSTANCE_TYPE is {instance_type!r} with {placed.instance.devices} Neuron devices, but {devices} "
            "are visible: unset it, or give the container all devices"
        )
    return list(placed.processes)


def _instance(generation: Generation, devices: int, cores: int) -> NeuronInstance:
    """Return the instance size with this number of devices, or of several, the one nearest in vCPUs to the host."""
    same = [i for i in INSTANCES.values() if i.generation == generation and i.devices == devices]
    if not same:
        raise StartupError(
            f"{devices} Neuron devices ({devices * CORES_PER_DEVICE[generation]} cores of {generation}) are visible, "
            f"but no instance size has that number: give the container all devices, or set {PREFIX}INSTANCE_TYPE"
        )
    return min(same, key=lambda instance: abs(instance.vcpus - cores))
