"""Settings of the kind `saved_model`: TensorFlow SavedModels by TensorFlow Serving, Neo or OpenVINO."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from containers.serving.contract import WORKERS_VARIABLE
from model_build.saved_model.recipe import Precision, SavedModelRecipe
from sizing.instances import instance
from stacks.settings.base import Key
from stacks.settings.endpoint import CapturedEndpoint, SingleVariantEndpoint
from stacks.settings.hosting import InferenceComponent
from stacks.settings.instance_types import Avx512Vnni, InstanceType, Need
from stacks.settings.neo import NeoCompilation, check_endpoint
from stacks.settings.tensorflow_serving import TensorFlowServing
from stacks.settings.workload import Workload

Server = Literal["tensorflow_serving", "openvino", "neo"]


class SavedModelEndpoint(CapturedEndpoint, SingleVariantEndpoint):
    """One endpoint, and the server that serves it."""

    server: Server
    """`tensorflow_serving` is SageMaker's TensorFlow Serving container with the build's SavedModel. `openvino` is this
    project's container with one of the build's OpenVINO models. `neo` is SageMaker's container with the SavedModel as
    Neo compiles it for the instance."""
    precision: Precision | None = None
    """Precision of the OpenVINO model."""
    workers: int | None = Field(default=None, ge=1)
    """Images that the OpenVINO container computes at the same time, each on vCPUs / workers threads. Without it, a few
    images take all vCPUs in turn, and as many images as vCPUs take one each."""
    tensorflow_serving: TensorFlowServing | None = None
    """Settings of the TensorFlow Serving container."""
    neo: NeoCompilation | None = None
    """What Neo compiles for."""
    instance_type: InstanceType = "ml.c6i.2xlarge"
    """SageMaker instance type."""
    inference_component: InferenceComponent | None = None
    """Host the model as copies that reserve a share of an instance each. Scaling then counts copies, down to zero.
    Without it, every instance holds the model."""

    @property
    def knobs(self) -> TensorFlowServing:
        """The TensorFlow Serving container's settings, its defaults where none are set."""
        return self.tensorflow_serving or TensorFlowServing()

    @property
    def needs(self) -> Sequence[Need]:
        """What the container needs of its instances."""
        return (*super().needs, Avx512Vnni()) if self.precision == "int8" else super().needs

    @property
    def artifact(self) -> str:
        """Name of the build's archive that the endpoint serves, or that Neo compiles for it."""
        return f"openvino_{self.precision}" if self.server == "openvino" else "tensorflow"

    @model_validator(mode="after")
    def _possible(self) -> "SavedModelEndpoint":
        if (self.server == "openvino") != (self.precision is not None):
            raise ValueError(
                f"server is {self.server!r} and precision {self.precision!r}: openvino needs one of fp32, int8 and "
                "bf16, every other server takes none and serves the SavedModel in fp32"
            )
        if self.server != "tensorflow_serving" and self.tensorflow_serving is not None:
            raise ValueError(
                f"tensorflow_serving is set with server {self.server!r}: its knobs are for that server only"
            )
        if self.workers is not None:
            vcpus = instance(self.instance_type).vcpus
            if self.server != "openvino" or self.workers > vcpus:
                raise ValueError(
                    f"workers is {self.workers} with server {self.server!r} on {self.instance_type}: it is for "
                    f"openvino, and at most the instance's {vcpus} vCPUs"
                )
        check_endpoint(self.server, self.neo, self.instance_type)
        if self.inference_component is not None:
            self.inference_component.check(self.instance_type, self.instance_count, self.scaling)
            if self.guardrails is not None:
                self.guardrails.check_copies(self.inference_component.copies, self.scaling)
        else:
            self.check_instances(self.scaling)
        return self

    @property
    def minimum_counts(self) -> dict[str, int]:
        """The fewest instances and copies, by the path of the setting."""
        component = self.inference_component
        if component is None:
            return {"instance_count": self.instance_count}
        return {
            "instance_count": self.instance_count,
            "inference_component.copies": component.copies,
            "inference_component.min_instances": component.min_instances,
        }

    def environment(self) -> dict[str, str]:
        """Return the container's environment variables."""
        if self.server == "tensorflow_serving":
            return self.knobs.environment()
        return {} if self.workers is None else {WORKERS_VARIABLE: str(self.workers)}

    @property
    def hosts_component(self) -> bool:
        """Whether the model is an inference component."""
        return self.inference_component is not None

    @property
    def tunable(self) -> bool:
        """Whether `inference tune` has knobs to turn here: TensorFlow Serving's, of an endpoint that keeps its size."""
        return self.server == "tensorflow_serving" and self.scaling is None and self.inference_component is None

    def warnings(self, *, inference_script: bool) -> list[str]:
        """Return which of the container's settings have no effect or a bad one, one line each."""
        if self.server != "tensorflow_serving":
            return []
        return self.knobs.without_effect(inference_script=inference_script, vcpus=instance(self.instance_type).vcpus)


class SavedModel(Workload):
    """One U-Net, trained once, and endpoints that serve it by different servers."""

    compiled_model: ClassVar[str] = "unet"

    kind: Literal["saved_model"] = "saved_model"
    """Kind of the workload."""
    recipe: SavedModelRecipe = SavedModelRecipe()
    """Recipe of the model."""
    endpoints: dict[Key, SavedModelEndpoint] = Field(min_length=1)
    """Endpoints by key."""
    compiled_for_devices: dict[Key, NeoCompilation] = Field(default_factory=dict)
    """Further compilations by Neo, by key. They are stored and not served."""

    @property
    def compilations(self) -> tuple[NeoCompilation, ...]:
        """All that Neo compiles."""
        served = (endpoint.neo for endpoint in self.endpoints.values() if endpoint.neo is not None)
        return (*served, *self.compiled_for_devices.values())

    @model_validator(mode="after")
    def _built(self) -> "SavedModel":
        for name, endpoint in self.endpoints.items():
            if endpoint.precision is not None and endpoint.precision not in self.recipe.precisions:
                raise ValueError(
                    f"endpoints.{name}.precision is {endpoint.precision!r}: recipe.precisions builds "
                    f"{', '.join(self.recipe.precisions)}"
                )
        for name, device in self.compiled_for_devices.items():
            if device.for_instances:
                raise ValueError(
                    f"compiled_for_devices.{name}.target_device is {device.target_device!r}, an instance: give it an "
                    "endpoint with server: neo"
                )
        return self

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the builds of this workload read from S3."""
        return self.recipe.s3_urls

    @property
    def served(self) -> Mapping[str, SavedModelEndpoint]:
        """Everything under `endpoints`, by key."""
        return self.endpoints
