"""Settings of the neuron_encoder image, read from environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from containers.neuron_encoder.instances import INSTANCES
from containers.serving.errors import StartupError

PREFIX = "NEURON_ENCODER_"
SAFE_PORTS_VARIABLE = "SAGEMAKER_SAFE_PORT_RANGE"
"""Environment variable with the ports that a container may use itself, as `first-last`; set by SageMaker."""
DeviceKind = Literal["neuron", "cpu", "timed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one container. The variable of a field is NEURON_ENCODER_ plus the field's name in capitals.

    device: `neuron` for accelerators, `cpu` for OpenVINO on the host, or `timed` for the published service times.
    virtual_cores: number of NeuronCores to emulate; required with cpu and timed, and refused with neuron.
    instance_type: instance type, for its number of devices; None detects it from the visible devices.
    models: copies of the model in every process.
    cores_per_copy: NeuronCores per process; None uses the artifact's value.
    copies: number of processes; None uses all cores.
    first_port: port of the first process; the others follow. 0 lets the kernel choose all ports, since only the
        reverse proxy connects to them. The default is the start of SAGEMAKER_SAFE_PORT_RANGE, if that is set.
    batch_deadline_ms: milliseconds after which a waiting window goes before fuller batches.
    queue_capacity: most waiting windows per model; a request that would exceed it gets a 503.
    tokenizer_threads: tokenizer threads per process; None uses the process's share of the host's cores, minus one for
        the event loop.
    hung_seconds: seconds without a response to /ping after which a process is restarted.
    """

    device: DeviceKind = "neuron"
    virtual_cores: int | None = None
    instance_type: str | None = None
    models: int = 1
    cores_per_copy: int | None = None
    copies: int | None = None
    first_port: int = 0
    batch_deadline_ms: float = 2.0
    queue_capacity: int = 256
    tokenizer_threads: int | None = None
    hung_seconds: int = 20

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables; raises StartupError with the invalid variable, its value and the fix."""
        known = {PREFIX + name.upper() for name in cls.__dataclass_fields__}
        if unknown := sorted(name for name in environment if name.startswith(PREFIX) and name not in known):
            raise StartupError(f"{unknown[0]} is not a setting: the settings are {', '.join(sorted(known))}")
        reader = _Reader(environment)
        settings = cls(
            device=reader.device(),
            virtual_cores=reader.count("virtual_cores", None),
            instance_type=reader.instance_type(),
            models=reader.count("models", 1) or 1,
            cores_per_copy=reader.count("cores_per_copy", None),
            copies=reader.count("copies", None),
            first_port=reader.first_port(),
            batch_deadline_ms=reader.milliseconds("batch_deadline_ms", 2.0),
            queue_capacity=reader.count("queue_capacity", 256) or 256,
            tokenizer_threads=reader.count("tokenizer_threads", None),
            hung_seconds=reader.count("hung_seconds", 20) or 20,
        )
        settings._check()
        return settings

    def _check(self) -> None:
        name = f"{PREFIX}VIRTUAL_CORES"
        if self.device == "neuron" and self.virtual_cores is not None:
            raise StartupError(f"{name} is {self.virtual_cores} with real devices: set {PREFIX}DEVICE to cpu or timed")
        if self.device != "neuron" and self.virtual_cores is None:
            raise StartupError(f"{PREFIX}DEVICE is {self.device!r}: set {name} to the number of cores to emulate")
        if self.device != "neuron" and self.instance_type is not None:
            raise StartupError(
                f"{PREFIX}INSTANCE_TYPE is {self.instance_type!r} with virtual cores: it applies only to real devices; "
                "unset it"
            )


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def _get(self, name: str) -> tuple[str, str | None]:
        variable = PREFIX + name.upper()
        return variable, self._environment.get(variable)

    def device(self) -> DeviceKind:
        variable, given = self._get("device")
        for kind in get_args(DeviceKind):
            if given in (None, kind):
                device: DeviceKind = kind
                return device
        raise StartupError(f"{variable} is {given!r}: it must be one of {', '.join(get_args(DeviceKind))}")

    def count(self, name: str, default: int | None) -> int | None:
        variable, given = self._get(name)
        if given is None:
            return default
        # int() raises ValueError for thousands of digits.
        if not (given.isascii() and given.isdecimal() and len(given) < 7 and int(given) >= 1):
            raise StartupError(f"{variable} is {given!r}: it must be a whole number from 1 to 999999")
        return int(given)

    def milliseconds(self, name: str, default: float) -> float:
        variable, given = self._get(name)
        if given is None:
            return default
        try:
            value = float(given)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1000:
            raise StartupError(f"{variable} is {given!r}: it must be milliseconds from 0 to 1000")
        return value

    def instance_type(self) -> str | None:
        variable, given = self._get("instance_type")
        if given is not None and given.removeprefix("ml.") not in INSTANCES:
            raise StartupError(f"{variable} is {given!r}: it must be one of {', '.join(INSTANCES)}")
        return given

    def first_port(self) -> int:
        variable, given = self._get("first_port")
        if given is None and (safe := self._environment.get(SAFE_PORTS_VARIABLE)):
            variable, given = SAFE_PORTS_VARIABLE, safe.partition("-")[0]
        if given is None:
            return 0
        if not (given.isascii() and given.isdecimal() and len(given) < 6):
            raise StartupError(f"{variable} is {given!r}: it must be a port, or 0 for any free ports")
        port = int(given)
        if port != 0 and not 1024 <= port <= 65535:
            raise StartupError(f"{variable} is {given!r}: it must be from 1024 to 65535, or 0 for any free ports")
        return port
