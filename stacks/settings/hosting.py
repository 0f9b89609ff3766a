"""How SageMaker hosts an endpoint: alarms, data capture, and inference components with their instances."""

from pydantic import Field, model_validator

from sizing.instances import Instance, instance
from stacks.settings.base import Settings
from stacks.settings.scaling import Scaling, most

ONLY_VARIANT = "AllTraffic"
"""Name of the variant of an endpoint that has only one; the SageMaker SDK uses the same."""
ENDPOINT_NAME_LIMIT = 63
"""Maximum length of a SageMaker endpoint name, in characters (CreateEndpoint API reference)."""


class DataCapture(Settings):
    """A stored sample of requests and responses, encrypted, under `capture/` in the artifact bucket."""

    sampling_percentage: int = Field(default=10, ge=1, le=100)
    """Percentage of the requests that are stored."""


class EndpointAlarms(Settings):
    """Thresholds at which alarms fire, and roll an update back."""

    p99_model_latency_ms: float = Field(default=1000, gt=0)
    """P99 of ModelLatency over one minute, in milliseconds."""
    server_errors: int = Field(default=5, ge=1)
    """5XX responses in one minute."""
    model_loading_wait_ms: float = Field(default=1000, gt=0)
    """Average ModelLoadingWaitTime of a multi-model endpoint over one minute, in milliseconds."""


class InferenceComponent(Settings):
    """The model as an inference component: copies that reserve a share of an instance each."""

    cpu_cores: float = Field(ge=0.25)
    """vCPUs that one copy reserves."""
    memory_mib: int = Field(ge=128)
    """Memory that one copy reserves, in MiB."""
    accelerators: int | None = Field(default=None, ge=1)
    """Accelerators that one copy reserves."""
    copies: int = Field(default=1, ge=0)
    """Initial number of copies."""
    min_instances: int = Field(default=1, ge=0)
    """Fewest instances of the endpoint."""
    max_instances: int = Field(default=1, ge=1)
    """Most instances of the endpoint. SageMaker keeps the number that the copies need. During an update it needs room
    for the new copies next to the old ones."""

    @model_validator(mode="after")
    def _possible(self) -> "InferenceComponent":
        if self.min_instances > self.max_instances:
            raise ValueError(f"min_instances is {self.min_instances} and max_instances {self.max_instances}: swap them")
        return self

    def check(self, instance_type: str, instance_count: int, scaling: Scaling | None) -> None:
        """Raise ValueError for copies that the instances cannot hold, and for contradictory bounds."""
        room = self._room(instance(instance_type))
        if not max(1, self.min_instances) <= instance_count <= self.max_instances:
            raise ValueError(
                f"instance_count is {instance_count}: it is the initial number of instances, and must lie between "
                f"inference_component.min_instances {self.min_instances}, at least 1, and max_instances "
                f"{self.max_instances}"
            )
        if scaling is not None:
            scaling.check_copies(self.copies, "inference_component.copies")
        copies = most(self.copies, scaling)
        if copies > room * self.max_instances:
            raise ValueError(
                f"inference_component.max_instances is {self.max_instances}: {room} "
                f"{'copy fits' if room == 1 else 'copies fit'} on {instance_type}, and there may be {copies}; set "
                f"max_instances {-(-copies // room)}"
            )
        self._check_zero(scaling)

    def _room(self, on: Instance) -> int:
        """Return how many copies fit on an instance; raise ValueError if none does."""
        reserved = (
            ("cpu_cores", self.cpu_cores, on.vcpus, "vCPUs"),
            ("memory_mib", self.memory_mib, int(on.memory_gib * 1024), "MiB"),
            ("accelerators", self.accelerators or 0, on.accelerators, "accelerators"),
        )
        rooms = []
        for setting, wanted, there, unit in reserved:
            if not wanted:
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
                f"inference_component.min_instances is {self.min_instances} with a scaling.min_capacity of 0: you "
                "would pay for instances that hold no copies; set min_instances to 0"
            )
        if not reaches_zero and not self.min_instances:
            raise ValueError(
                "inference_component.min_instances is 0, but the copies never go to 0 and need instances; set "
                "scaling.min_capacity to 0, or min_instances to 1"
            )
        if not reaches_zero and not self.copies:
            raise ValueError(
                "inference_component.copies is 0 and nothing would ever start one; set scaling.min_capacity to 0, "
                "or copies to 1"
            )
