"""Settings of neuron_encoder: what is traced, and the two hostings, a SageMaker endpoint and a fleet on EC2."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from containers.neuron_encoder.instances import INSTANCES, neuron_instance
from containers.neuron_encoder.placement import Demand, Placement, place
from containers.neuron_encoder.settings import PREFIX
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe
from stacks.artifact_settings import BuiltWorkload
from stacks.frozen import Key, Settings
from stacks.guardrails import SingleVariantEndpoint
from stacks.hosting_settings import DataCapture, EndpointAlarms, InstanceType
from stacks.scaling_settings import Scaling

Device = Literal["neuron", "cpu", "timed"]
_MIB = 2**20


class NeuronServing(Settings):
    """What one process of the image serves, wherever it is hosted.

    copies_per_core: copies of the model that take turns on a process's NeuronCores, addressed one by one.
    processes: on an instance; absent, as many as it has cores for.
    host_mib: of one process. trace_mib: of one trace on the accelerator, where 440 is BERT-base in FP32.
    batch_deadline_ms: after which a waiting row goes before its batch is full. queue_capacity: rows of one copy that
        may wait. tokenizer_threads: of each process.
    """

    model: Key
    copies_per_core: int = Field(default=1, ge=1)
    processes: int | None = Field(default=None, ge=1)
    host_mib: int = Field(default=2048, ge=128)
    trace_mib: int = Field(default=440, ge=1)
    batch_deadline_ms: float = Field(default=2.0, ge=0, le=1000)
    queue_capacity: int = Field(default=256, ge=1)
    tokenizer_threads: int = Field(default=1, ge=1)

    def placement(self, instance_type: str, recipe: NeuronEncoderRecipe) -> Placement:
        """Processes of an instance; raises PlacementError, a ValueError, for what does not fit."""
        demand = Demand(
            models=self.copies_per_core,
            cores_per_copy=recipe.cores_per_copy,
            copies=self.processes,
            host_bytes=self.host_mib * _MIB,
            device_bytes=len(recipe.traced_shapes) * self.trace_mib * _MIB,
        )
        return place(instance_type, demand)

    def environment(self) -> dict[str, str]:
        """The container's variables that do not depend on where it runs."""
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
                f"instance_type is {instance_type!r} and models.{self.model}.target {recipe.target!r}: what is traced "
                f"for one runs on no other; set target {generation!r}, or another instance_type"
            )


class NeuronEndpoint(NeuronServing, SingleVariantEndpoint):
    """A SageMaker endpoint: one container an instance, which starts a process for each group of NeuronCores.

    device, virtual_cores: "cpu" and "timed" pretend so many NeuronCores on an instance without them, one answering
        with OpenVINO, the other taking the published time of each batch and answering nothing of worth.
    scaling: on requests, as everywhere. SageMaker publishes no utilisation of NeuronCores, and the isolated container
        can publish none; concurrent requests per model are the nearest.
    """

    hosting: Literal["sagemaker"]
    instance_type: InstanceType = "ml.inf2.xlarge"
    device: Device = "neuron"
    virtual_cores: int | None = Field(default=None, ge=1, le=64)
    scaling: Scaling | None = None
    data_capture: DataCapture | None = None
    alarms: EndpointAlarms = EndpointAlarms()

    @property
    def counts(self) -> dict[str, int]:
        """How many instances there are at the least, by the path of the setting."""
        return self.instance_counts

    @model_validator(mode="after")
    def _possible(self) -> "NeuronEndpoint":
        if (self.device == "neuron") != (self.virtual_cores is None):
            raise ValueError(
                f"device is {self.device!r} and virtual_cores {self.virtual_cores}: cpu and timed need the number of "
                "cores to pretend, neuron has its own and takes none"
            )
        self.check_instances(self.scaling)
        return self

    def check(self, recipe: NeuronEncoderRecipe) -> None:
        """Raises ValueError where the model cannot be served so."""
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
        """All of the container's variables."""
        values = self.environment() | {f"{PREFIX}DEVICE": self.device}
        if self.device == "neuron":
            values[f"{PREFIX}INSTANCE_TYPE"] = self.instance_type.removeprefix("ml.")
        else:
            values[f"{PREFIX}VIRTUAL_CORES"] = str(self.virtual_cores)
        if self.processes is not None:
            values[f"{PREFIX}COPIES"] = str(self.processes)
        return values


class CoreScaling(Settings):
    """Target tracking on the average utilisation of a fleet's NeuronCores.

    target_core_utilization: percent. warmup_seconds: until a new instance serves and counts.
    """

    target_core_utilization: float = Field(default=60, gt=0, le=100)
    warmup_seconds: int = Field(default=600, ge=60, le=3600)


class NeuronFleet(NeuronServing):
    """EC2 instances behind an internal load balancer, in a network of their own over two zones without internet.

    image_id: machine image; absent, AWS's newest Neuron base image, found when it is deployed.
    vpc_cidr: addresses of the network; only from them the load balancer takes requests.
    availability_zones: two that have the instance type; absent, the first two of the region that is deployed to.
    certificate_arn: of ACM, to serve HTTPS on 443; without it HTTP on 80.
    scaling: of a fleet whose max_instances are above its min_instances.
    """

    hosting: Literal["ec2"]
    instance_type: str = "inf2.xlarge"
    min_instances: int = Field(default=1, ge=1)
    max_instances: int = Field(default=4, ge=1)
    desired_instances: int | None = Field(default=None, ge=1)
    volume_gib: int = Field(default=100, ge=50, le=16384)
    image_id: str | None = Field(default=None, pattern=r"^ami-[0-9a-f]{8,17}$")
    vpc_cidr: str = Field(default="10.42.0.0/16", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-4])$")
    availability_zones: tuple[str, str] | None = None
    certificate_arn: str | None = Field(default=None, pattern=r"^arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/.+$")
    scaling: CoreScaling | None = CoreScaling()
    alarms: EndpointAlarms = EndpointAlarms()

    @property
    def counts(self) -> dict[str, int]:
        """How many instances there are at the least, by the path of the setting."""
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
        """Raises ValueError where the model cannot be served so."""
        self._check_generation(self.instance_type, recipe)
        self.placement(self.instance_type, recipe)


Hosting = Annotated[NeuronEndpoint | NeuronFleet, Field(discriminator="hosting")]


class NeuronEncoder(BuiltWorkload):
    """The neuron_encoder workload: models to trace, and what serves them."""

    models: dict[Key, NeuronEncoderRecipe] = Field(min_length=1)
    endpoints: dict[Key, Hosting] = Field(min_length=1)

    @model_validator(mode="after")
    def _served(self) -> "NeuronEncoder":
        for name, endpoint in self.endpoints.items():
            if endpoint.model not in self.models:
                raise ValueError(
                    f"endpoints.{name}.model is {endpoint.model!r}: choose one of models: {', '.join(self.models)}"
                )
            try:
                endpoint.check(self.models[endpoint.model])
            except ValueError as error:
                raise ValueError(f"endpoints.{name}: {error}") from error
        unused = set(self.models) - {endpoint.model for endpoint in self.endpoints.values()}
        if unused:
            raise ValueError(f"models.{sorted(unused)[0]} is served by no endpoint: remove it or add an endpoint")
        return self

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the builds of this workload read from S3."""
        return tuple(sorted({url for recipe in self.models.values() for url in recipe.s3_urls}))
