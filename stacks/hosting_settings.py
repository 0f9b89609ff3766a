"""How SageMaker hosts an endpoint: alarms, data capture, and inference components with their instances."""

import difflib
from functools import cache
from typing import Annotated

from botocore.loaders import Loader
from pydantic import AfterValidator, Field, model_validator

from sizing.instances import Instance, instance
from stacks.frozen import Settings
from stacks.scaling_settings import Scaling


@cache
def instance_types() -> frozenset[str]:
    """Endpoint instance types known to the installed botocore; read from its data files, without network."""
    model = Loader().load_service_model("sagemaker", "service-2")
    return frozenset(model["shapes"]["ProductionVariantInstanceType"]["enum"])


def _known_instance_type(value: str) -> str:
    if value not in instance_types():
        close = difflib.get_close_matches(value, sorted(instance_types()), n=4)
        hint = f"did you mean {', '.join(close)}?" if close else "for example ml.c6i.2xlarge"
        raise ValueError(f"{value!r} is not an endpoint instance type; {hint}")
    return value


InstanceType = Annotated[str, AfterValidator(_known_instance_type)]


def has_local_nvme(instance_type: str) -> bool:
    """Whether its storage is NVMe of the machine, which the hardware encrypts and which takes no key."""
    family = instance_type.split(".")[1]
    return family.startswith(("g4dn", "g5", "g6", "p4d", "p4de", "p5", "inf1", "inf2", "trn1")) or family.endswith("d")


class DataCapture(Settings):
    """Stores a sample of requests and answers, encrypted, under `capture/` in the artifact bucket."""

    sampling_percentage: int = Field(default=10, ge=1, le=100)


class EndpointAlarms(Settings):
    """Thresholds that alarm, and that roll a deployment back.

    p99_model_latency_ms: P99 of ModelLatency over one minute. server_errors: 5XX answers in one minute.
    model_loading_wait_ms: average ModelLoadingWaitTime over one minute, of multi-model endpoints.
    """

    p99_model_latency_ms: float = Field(default=1000, gt=0)
    server_errors: int = Field(default=5, ge=1)
    model_loading_wait_ms: float = Field(default=1000, gt=0)


class InferenceComponent(Settings):
    """The model as an inference component: copies with a share of an instance each, on instances that follow them.

    cpu_cores, memory_mib, accelerators: what one copy reserves. copies: to begin with.
    min_instances, max_instances: of the endpoint; SageMaker keeps as many between them as the copies need, and while
        an update goes out, the new copies beside the old.
    """

    cpu_cores: float = Field(ge=0.25)
    memory_mib: int = Field(ge=128)
    accelerators: int | None = Field(default=None, ge=1)
    copies: int = Field(default=1, ge=0)
    min_instances: int = Field(default=1, ge=0)
    max_instances: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> "InferenceComponent":
        if self.min_instances > self.max_instances:
            raise ValueError(f"min_instances is {self.min_instances} and max_instances {self.max_instances}: swap them")
        return self

    def check(self, instance_type: str, instance_count: int, scaling: Scaling | None) -> None:
        """Raises ValueError for what the instances cannot hold, and for bounds that contradict each other."""
        room = self._room(instance(instance_type))
        if not max(1, self.min_instances) <= instance_count <= self.max_instances:
            raise ValueError(
                f"instance_count is {instance_count}: it is what the endpoint begins with, and must lie between "
                f"inference_component.min_instances {self.min_instances}, at least 1, and max_instances "
                f"{self.max_instances}"
            )
        if scaling is not None:
            scaling.check_copies(self.copies, "inference_component.copies")
        most = self.copies if scaling is None else scaling.most
        if most > room * self.max_instances:
            raise ValueError(
                f"inference_component.max_instances is {self.max_instances}: {room} "
                f"{'copy fits' if room == 1 else 'copies fit'} on {instance_type}, and there may be {most}; set "
                f"max_instances {-(-most // room)}"
            )
        self._check_zero(scaling)

    def _room(self, on: Instance) -> int:
        """How many copies an instance holds; raises ValueError when not even one."""
        reserved = (
            ("cpu_cores", self.cpu_cores, on.vcpus, "vCPUs"),
            ("memory_mib", self.memory_mib, int(on.memory_gib * 1024), "MiB"),
            ("accelerators", self.accelerators or 0, on.accelerators, "accelerators"),
        )
        rooms = []
        for setting, wanted, there, unit in reserved:
            if there is None or not wanted:
                continue
            if wanted > there:
                raise ValueError(
                    f"inference_component.{setting} is {wanted:g}: {on.name} has {there} {unit}; ask for less or use a "
                    "larger instance_type"
                )
            rooms.append(int(there // wanted))
        return min(rooms)

    def _check_zero(self, scaling: Scaling | None) -> None:
        reaches_zero = scaling is not None and scaling.reaches_zero
        if reaches_zero and self.min_instances:
            raise ValueError(
                f"inference_component.min_instances is {self.min_instances} with a scaling.min_capacity of 0: without "
                "copies the instances would still be paid for; set min_instances 0"
            )
        if not reaches_zero and not self.min_instances:
            raise ValueError(
                "inference_component.min_instances is 0, but the copies never go to 0 and keep instances; set "
                "scaling.min_capacity 0, or min_instances 1"
            )
        if not reaches_zero and not self.copies:
            raise ValueError(
                "inference_component.copies is 0 and nothing would ever start one; set scaling.min_capacity 0, or "
                "copies 1"
            )
