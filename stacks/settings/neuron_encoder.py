"""Settings of the kind `neuron_encoder`: traced models on SageMaker endpoints or EC2 fleets."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from containers.neuron_encoder.instances import INSTANCES, neuron_instance
from containers.neuron_encoder.placement import Demand, Placement, place
from containers.neuron_encoder.settings import PREFIX
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe
from stacks.settings.base import Key, Settings
from stacks.settings.endpoint import CapturedEndpoint, SingleVariantEndpoint, WorkloadEndpoint
from stacks.settings.instance_types import InstanceType
from stacks.settings.models import ModelsWorkload

Device = Literal["neuron", "cpu", "timed"]
_MIB = 2**20


class NeuronServing(Settings):
    """What one process of the image serves, wherever it is hosted."""

    model: Key
    """Key in `models`."""
    copies_per_core: int = Field(default=1, ge=1)
    """Copies of the model that share a process's NeuronCores. Each copy has a path of its own."""
    processes: int | None = Field(default=None, ge=1)
    """Processes per instance. Without it, the number that its NeuronCores allow."""
    host_mib: int = Field(default=2048, ge=128)
    """Host memory of one process, in MiB."""
    trace_mib: int = Field(default=440, ge=1)
    """Accelerator memory of one trace, in MiB. BERT-base in FP32 takes 440."""
    batch_deadline_ms: float = Field(default=2.0, ge=0, le=1000)
    """How long a row waits for its batch to fill, in milliseconds."""
    queue_capacity: int = Field(default=256, ge=1)
    """Rows that may wait for one copy."""
    tokenizer_threads: int = Field(default=1, ge=1)
    """Tokenizer threads of each process."""

    def placement(self, instance_type: str, recipe: NeuronEncoderRecipe) -> Placement:
        """Return the processes of an instance; raises PlacementError, a ValueError, if they do not fit."""
        demand = Demand(
            models=self.copies_per_core,
            cores_per_copy=recipe.cores_per_copy,
            copies=self.processes,
            host_bytes=self.host_mib * _MIB,
            device_bytes=len(recipe.traced_shapes) * self.trace_mib * _MIB,
        )
        return place(instance_type, demand)

    def environment(self) -> dict[str, str]:
        """Return the container's environment variables that are the same for every hosting."""
        values = {
            "MODELS": self.copies_per_core,
            "BATCH_DEADLINE_MS": f"{self.batch_deadline_ms:g}",
            "QUEUE_CAPACITY": self.queue_capacity,
            "TOKENIZER_THREADS": self.tokenizer_threads,
        }
        return {f"{PREFIX}{name}": str(value) for name, value in values.items()}

    def _check_generation(self, instance_type: str, recipe: NeuronEncoderRecipe) -> None:
        generation = neuron_instance(instance_type).generation
        if recipe.target != generation:
            raise ValueError(
                f"instance_type is {instance_type!r} and models.{self.model}.target {recipe.target!r}: a trace runs "
                f"only on the generation it was made for; set target {generation!r}, or another instance_type"
            )


class NeuronEndpoint(NeuronServing, CapturedEndpoint, SingleVariantEndpoint):
    """A SageMaker endpoint: one container per instance, with a process for each group of NeuronCores.

    Scaling follows requests, as for every endpoint. SageMaker publishes no utilization of NeuronCores, and the isolated
    container cannot publish it. Concurrent requests per model come closest.
    """

    behind_load_balancer: ClassVar[bool] = False

    hosting: Literal["sagemaker"]
    """Hosted by SageMaker."""
    instance_type: InstanceType = "ml.inf2.xlarge"
    """SageMaker instance type."""
    device: Device = "neuron"
    """`neuron` for NeuronCores. `cpu` and `timed` emulate them on an instance without them: `cpu` responds with
    OpenVINO. `timed` takes the published time of each batch, and its responses mean nothing."""
    virtual_cores: int | None = Field(default=None, ge=1, le=64)
    """Number of emulated NeuronCores, for devices `cpu` and `timed`."""

    @model_validator(mode="after")
    def _possible(self) -> "NeuronEndpoint":
        if (self.device == "neuron") != (self.virtual_cores is None):
            raise ValueError(
                f"device is {self.device!r} and virtual_cores {self.virtual_cores}: set virtual_cores with device cpu "
                "or timed; remove it with device neuron, which uses real cores"
            )
        self.check_instances(self.scaling)
        return self

    def check(self, recipe: NeuronEncoderRecipe) -> None:
        """Raise ValueError if the endpoint cannot serve the model."""
        if self.device == "neuron":
            self._check_generation(self.instance_type, recipe)
            self.placement(self.instance_type, recipe)
            return
        if self.instance_type.removeprefix("ml.") in INSTANCES:
            raise ValueError(
                f"device is {self.device!r} on {self.instance_type}, which has NeuronCores of its own: set device "
                "'neuron', or an instance_type without them"
            )
        if recipe.target != "cpu":
            raise ValueError(
                f"device is {self.device!r} and models.{self.model}.target {recipe.target!r}: virtual cores serve "
                "target 'cpu'"
            )

    def container_environment(self) -> dict[str, str]:
        """Return all environment variables of the container."""
        values = self.environment() | {f"{PREFIX}DEVICE": self.device}
        if self.device == "neuron":
            values[f"{PREFIX}INSTANCE_TYPE"] = self.instance_type.removeprefix("ml.")
        else:
            values[f"{PREFIX}VIRTUAL_CORES"] = str(self.virtual_cores)
        if self.processes is not None:
            values[f"{PREFIX}COPIES"] = str(self.processes)
        return values


class CoreScaling(Settings):
    """Target tracking on the average utilization of a fleet's NeuronCores."""

    target_core_utilization: float = Field(default=60, gt=0, le=100)
    """Target utilization, in percent."""
    warmup_seconds: int = Field(default=600, ge=60, le=3600)
    """Time until a new instance serves and its utilization counts, in seconds."""


class NeuronFleet(NeuronServing, WorkloadEndpoint):
    """EC2 instances behind an internal load balancer, in a network of their own over two zones without internet."""

    behind_load_balancer: ClassVar[bool] = True

    hosting: Literal["ec2"]
    """Hosted on EC2."""
    instance_type: str = "inf2.xlarge"
    """EC2 instance type."""
    min_instances: int = Field(default=1, ge=1)
    """Fewest instances."""
    max_instances: int = Field(default=4, ge=1)
    """Most instances."""
    desired_instances: int | None = Field(default=None, ge=1)
    """Initial number of instances. Without it, the fewest."""
    volume_gib: int = Field(default=100, ge=50, le=16384)
    """Size of the root volume, in GiB."""
    image_id: str | None = Field(default=None, pattern=r"^ami-[0-9a-f]{8,17}$")
    """ID of the machine image. Without it, AWS's newest Neuron base image at the time of the deployment."""
    vpc_cidr: str = Field(default="10.42.0.0/16", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-4])$")
    """Address range of the network. The load balancer accepts requests only from it."""
    availability_zones: tuple[str, str] | None = None
    """Two Availability Zones that have the instance type. Without them, the region's first two."""
    certificate_arn: str | None = Field(default=None, pattern=r"^arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/.+$")
    """ARN of an ACM certificate, for HTTPS on port 443. Without it, HTTP on port 80."""
    scaling: CoreScaling | None = CoreScaling()
    """How the number of instances follows utilization, where max_instances exceeds min_instances."""

    @property
    def device(self) -> Device:
        """What runs the models."""
        return "neuron"

    @property
    def virtual_cores(self) -> None:
        """Number of emulated NeuronCores: none, since a fleet has real ones."""
        return None

    @property
    def scales(self) -> bool:
        """Whether load changes the number of instances."""
        return self.tracked is not None

    @property
    def minimum_counts(self) -> dict[str, int]:
        """The fewest instances, by the path of the setting."""
        return {"min_instances": self.min_instances}

    @property
    def tracked(self) -> CoreScaling | None:
        """The scaling; None for a fleet of one size, which Auto Scaling does not track."""
        return self.scaling if self.min_instances < self.max_instances else None

    @model_validator(mode="after")
    def _possible(self) -> "NeuronFleet":
        if self.instance_type not in INSTANCES:
            raise ValueError(f"instance_type is {self.instance_type!r}: choose one of {', '.join(INSTANCES)}")
        bounds = f"min_instances {self.min_instances} and max_instances {self.max_instances}"
        if self.min_instances > self.max_instances:
            raise ValueError(f"there are {bounds}: swap them")
        desired = self.desired_instances
        if desired is not None and not self.min_instances <= desired <= self.max_instances:
            raise ValueError(f"desired_instances is {desired}: it must lie between {bounds}")
        if neuron_instance(self.instance_type).generation == "inf1" and self.image_id is None:
            raise ValueError(
                f"instance_type is {self.instance_type!r} without image_id: AWS's Neuron images after SDK 2.26 have no "
                "driver for Inf1; name an older one by image_id, or use inf2"
            )
        return self

    def check(self, recipe: NeuronEncoderRecipe) -> None:
        """Raise ValueError if the endpoint cannot serve the model."""
        self._check_generation(self.instance_type, recipe)
        self.placement(self.instance_type, recipe)


Hosting = Annotated[NeuronEndpoint | NeuronFleet, Field(discriminator="hosting")]


class NeuronEncoder(ModelsWorkload[NeuronEncoderRecipe]):
    """Transformer encoders on NeuronCores: models to trace, and endpoints that serve them."""

    build_kinds: ClassVar[tuple[str, ...]] = ("encoder",)
    builds_on_fleet: ClassVar[bool] = False

    kind: Literal["neuron_encoder"] = "neuron_encoder"
    """Kind of the workload."""

    endpoints: dict[Key, Hosting] = Field(min_length=1)
    """SageMaker endpoints and EC2 fleets, by key."""

    @model_validator(mode="after")
    def _served(self) -> "NeuronEncoder":
        self.check_models(self.endpoints)
        for name, endpoint in self.endpoints.items():
            try:
                endpoint.check(self.models[endpoint.model])
            except ValueError as error:
                raise ValueError(f"endpoints.{name}: {error}") from error
        return self

    @property
    def served(self) -> Mapping[str, NeuronEndpoint | NeuronFleet]:
        """Everything under `endpoints`, by key."""
        return self.endpoints
