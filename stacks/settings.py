"""The settings of a deployment: the one home of what can be set and of every default."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from containers.serving.contract import WORKERS_VARIABLE
from model_build.encoder.recipe import EncoderRecipe, Precision
from model_build.saved_model.recipe import Precision as UnetPrecision
from model_build.saved_model.recipe import SavedModelRecipe
from model_build.tabular.recipe import TabularRecipe
from sizing.instances import instance
from stacks.artifact_settings import BuiltWorkload, Principal
from stacks.budget_settings import Budget as Budget
from stacks.frozen import Key, Settings
from stacks.guardrails import GuardedEndpoint, SingleVariantEndpoint, check_shadows
from stacks.hosting_settings import DataCapture, EndpointAlarms, InferenceComponent, InstanceType
from stacks.load_test_settings import LoadTest, TaskVpc
from stacks.model_build_settings import ModelBuild
from stacks.neo import NeoCompilation, check_endpoint
from stacks.neuron_settings import NeuronEncoder
from stacks.scaling_settings import Scaling as Scaling
from stacks.security_settings import PrivateNetwork, check_alone, check_sources, refuse_secrets
from stacks.security_settings import Vpc as Vpc
from stacks.supply_chain_settings import Images, check_revisions
from stacks.tensorflow_serving import TensorFlowServing

Profile = Literal["dev", "prod"]
ChurnContainer = Literal["trees", "builtin"]
UnetServer = Literal["tensorflow_serving", "openvino", "neo"]

DEPLOYMENTS = Path(__file__).parents[1] / "deployments"
ENDPOINT_NAME_LIMIT = 63
"""Characters in a SageMaker endpoint name (CreateEndpoint API reference)."""
ONLY_VARIANT = "AllTraffic"
"""The variant of an endpoint that has one; the name that the SageMaker SDK gives."""
_WITHOUT_VNNI = re.compile(r"^ml\.(c4|c5|c5d|m4|m5|m5d|t2|t3|r5|r5d)\.")
"""Families of which some or all machines lack AVX-512 VNNI; C5 may be Skylake, which has none."""


class DeploymentError(ValueError):
    """A deployment file is missing or wrong; the text lists every problem, each on one line."""


VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]{0,62})$")]


class Variant(Settings):
    """A production variant; its name is the TargetVariant of InvokeEndpoint.

    weight: share of the requests that name no variant.
    shadow: gets copies of the other variant's requests, its weight divided by that one's; its answers go nowhere.
    """

    precision: Precision
    instance_type: InstanceType = "ml.c6i.2xlarge"
    instance_count: int = Field(default=1, ge=1)
    weight: float = Field(default=1.0, ge=0)
    shadow: bool = False
    enabled: bool = True

    @model_validator(mode="after")
    def _int8_needs_vnni(self) -> "Variant":
        if self.precision == "int8" and _WITHOUT_VNNI.match(self.instance_type):
            raise ValueError(
                f"instance_type is {self.instance_type!r} with precision 'int8': not every machine of that family has "
                "AVX-512 VNNI, without which INT8 is slower than FP32; use ml.c6i, ml.m6i or newer, or precision: fp32"
            )
        return self


class Endpoint(GuardedEndpoint):
    """One real-time endpoint."""

    model: Key
    variants: dict[VariantName, Variant] = Field(min_length=1)
    scaling: Scaling | None = None
    data_capture: DataCapture | None = None
    alarms: EndpointAlarms = EndpointAlarms()

    @property
    def enabled_variants(self) -> dict[str, Variant]:
        """The variants that are switched on."""
        return {name: variant for name, variant in self.variants.items() if variant.enabled}

    @property
    def instance_types(self) -> dict[str, str]:
        """The enabled variants' instance types, by the path of their setting."""
        return {f"variants.{name}.instance_type": v.instance_type for name, v in self.enabled_variants.items()}

    @property
    def production_variants(self) -> dict[str, Variant]:
        """The enabled variants whose answers go somewhere."""
        return {name: variant for name, variant in self.enabled_variants.items() if not variant.shadow}

    @property
    def instance_counts(self) -> dict[str, int]:
        """How many instances the production variants begin with, by the path of the setting."""
        return {f"variants.{name}.instance_count": v.instance_count for name, v in self.production_variants.items()}

    @model_validator(mode="after")
    def _possible(self) -> "Endpoint":
        enabled = self.enabled_variants
        if not enabled:
            raise ValueError(f"no variant is enabled: enable one of {', '.join(self.variants)} or remove the endpoint")
        if len(enabled) > 10:
            raise ValueError(f"{len(enabled)} variants are enabled: SageMaker allows 10 an endpoint; split it in two")
        if not any(variant.weight for variant in enabled.values()):
            raise ValueError("every weight is 0: give at least one enabled variant a weight above 0")
        check_shadows({name: (variant.weight, variant.shadow) for name, variant in enabled.items()})
        if self.scaling is not None:
            for name, variant in self.production_variants.items():
                self.scaling.check_count(variant.instance_count, f"variants.{name}.instance_count")
        self.check_guardrails(self.scaling)
        return self


class Encoder(BuiltWorkload):
    """The encoder workload: models to build, and endpoints that serve them."""

    models: dict[Key, EncoderRecipe] = Field(min_length=1)
    endpoints: dict[Key, Endpoint] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_models(self) -> "Encoder":
        for name, endpoint in self.endpoints.items():
            if endpoint.model not in self.models:
                raise ValueError(
                    f"endpoints.{name}.model is {endpoint.model!r}: choose one of models: {', '.join(self.models)}"
                )
        if unused := set(self.models) - {endpoint.model for endpoint in self.endpoints.values()}:
            raise ValueError(f"models.{sorted(unused)[0]} is served by no endpoint: remove it or add an endpoint")
        return self

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the builds of this workload read from S3."""
        return tuple(sorted({url for recipe in self.models.values() for url in recipe.s3_urls}))


class MultiModelEndpoint(SingleVariantEndpoint):
    """One endpoint that serves every model under the workload's prefix."""

    instance_type: InstanceType = "ml.c5.2xlarge"
    scaling: Scaling | None = None
    alarms: EndpointAlarms = EndpointAlarms()

    @model_validator(mode="after")
    def _possible(self) -> "MultiModelEndpoint":
        self.check_instances(self.scaling)
        return self


_BUILD_FILES = ("summary.json", "failure.json", "requests.csv", "accuracy.png")
"""What a build of churn models writes besides the models; a test holds it to the build."""


class Tabular(BuiltWorkload):
    """The tabular workload: one model per state, and multi-model endpoints that serve all of them.

    container: "trees" is this project's image, "builtin" the image of SageMaker's built-in XGBoost.
    memory_per_model_mib: the least that a model counts against an instance's memory in this project's image;
        0 counts what it takes, about 0.1 MiB. The built-in container takes about 235 MiB, as it was published
        to hold 31 models on ml.c5.xlarge.
    model_uploaders: ARNs of the roles and users who may upload models, `*` for a part of a name. Without it, whoever
        IAM allows may; with it, the bucket denies everybody else, administrators too. [] leaves it to builds.
    """

    recipe: TabularRecipe = TabularRecipe()
    container: ChurnContainer = "trees"
    memory_per_model_mib: int = Field(default=0, ge=0)
    model_uploaders: tuple[Principal, ...] | None = None
    endpoints: dict[Key, MultiModelEndpoint] = Field(min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> "Tabular":
        if self.container == "builtin" and self.memory_per_model_mib:
            raise ValueError(
                f"memory_per_model_mib is {self.memory_per_model_mib} with container 'builtin': that image takes what "
                "it takes; remove it or use container: trees"
            )
        return self

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the builds of this workload read from S3."""
        return self.recipe.s3_urls

    @property
    def writers(self) -> tuple[str, ...]:
        """ARNs of those who may upload models."""
        return self.model_uploaders or ()

    def protected_keys(self, workload: str) -> tuple[str, ...]:
        """Return all keys where the uploaders are named, and else all but the models'."""
        if self.model_uploaders is not None:
            return super().protected_keys(workload)
        return (f"{workload}/build-cache.json", *(f"{workload}/*/{name}" for name in _BUILD_FILES))


class UnetEndpoint(SingleVariantEndpoint):
    """One endpoint of saved_model.

    server: "tensorflow_serving" is SageMaker's TensorFlow Serving container with the build's SavedModel,
        "openvino" this project's container with one of the build's OpenVINO models, "neo" SageMaker's container with
        the SavedModel as Neo compiles it for the instance.
    precision: of the OpenVINO model.
    workers: images that the OpenVINO container computes at the same time, each on vCPUs / workers threads. Without it,
        few images get all vCPUs one after the other, and as many images as vCPUs one each.
    tensorflow_serving: the container's knobs. neo: what is compiled for.
    inference_component: hosts the model as copies with a share of an instance each, which scaling then counts, down to
        0; without one every instance holds the model.
    """

    server: UnetServer
    precision: UnetPrecision | None = None
    workers: int | None = Field(default=None, ge=1)
    tensorflow_serving: TensorFlowServing | None = None
    neo: NeoCompilation | None = None
    instance_type: InstanceType = "ml.c6i.2xlarge"
    inference_component: InferenceComponent | None = None
    scaling: Scaling | None = None
    data_capture: DataCapture | None = None
    alarms: EndpointAlarms = EndpointAlarms()

    @property
    def knobs(self) -> TensorFlowServing:
        """The TensorFlow Serving container's settings, its defaults where none are set."""
        return self.tensorflow_serving or TensorFlowServing()

    @property
    def artifact(self) -> str:
        """Name of the build's archive that the endpoint serves, or that Neo compiles for it."""
        return f"openvino_{self.precision}" if self.server == "openvino" else "tensorflow"

    @model_validator(mode="after")
    def _possible(self) -> "UnetEndpoint":
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
        if self.precision == "int8" and _WITHOUT_VNNI.match(self.instance_type):
            raise ValueError(
                f"instance_type is {self.instance_type!r} with precision 'int8': not every machine of that family has "
                "AVX-512 VNNI, without which INT8 is slower than FP32; use ml.c6i, ml.m6i or newer"
            )
        if self.inference_component is not None:
            self.inference_component.check(self.instance_type, self.instance_count, self.scaling)
            if self.guardrails is not None:
                self.guardrails.check_copies(self.inference_component.copies, self.scaling)
        else:
            self.check_instances(self.scaling)
        return self

    @property
    def counts(self) -> dict[str, int]:
        """How many instances or copies there are at the least, by the path of the setting."""
        component = self.inference_component
        if component is None:
            return {"instance_count": self.instance_count}
        return {
            "instance_count": self.instance_count,
            "inference_component.copies": component.copies,
            "inference_component.min_instances": component.min_instances,
        }

    def environment(self) -> dict[str, str]:
        """The container's environment variables."""
        if self.server == "tensorflow_serving":
            return self.knobs.environment()
        return {} if self.workers is None else {WORKERS_VARIABLE: str(self.workers)}

    @property
    def tunable(self) -> bool:
        """Whether `inference tune` has knobs to turn here: TensorFlow Serving's, of an endpoint that keeps its size."""
        return self.server == "tensorflow_serving" and self.scaling is None and self.inference_component is None

    def warnings(self, *, inference_script: bool) -> list[str]:
        """What of the container's knobs does nothing, or only harm, one line each."""
        if self.server != "tensorflow_serving":
            return []
        return self.knobs.without_effect(inference_script=inference_script, vcpus=instance(self.instance_type).vcpus)


class SavedModel(BuiltWorkload):
    """The saved_model workload: one U-Net, trained once, and endpoints that serve it by different servers.

    compiled_for_devices: what Neo compiles the SavedModel for besides; it is stored, and served by nobody.
    """

    recipe: SavedModelRecipe = SavedModelRecipe()
    endpoints: dict[Key, UnetEndpoint] = Field(min_length=1)
    compiled_for_devices: dict[Key, NeoCompilation] = Field(default_factory=dict)

    @property
    def compilations(self) -> list[NeoCompilation]:
        """All that Neo compiles."""
        served = [endpoint.neo for endpoint in self.endpoints.values() if endpoint.neo is not None]
        return served + list(self.compiled_for_devices.values())

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


class Workloads(Settings):
    """The workloads of a deployment; a missing one is not deployed."""

    encoder: Encoder | None = None
    tabular: Tabular | None = None
    saved_model: SavedModel | None = None
    neuron_encoder: NeuronEncoder | None = None

    @property
    def enabled(self) -> dict[str, Encoder | Tabular | SavedModel | NeuronEncoder]:
        """The workloads that are deployed, by name."""
        named = {
            "encoder": self.encoder,
            "tabular": self.tabular,
            "saved_model": self.saved_model,
            "neuron_encoder": self.neuron_encoder,
        }
        return {name: workload for name, workload in named.items() if workload is not None}


class Deployment(Settings):
    """One environment, read from `deployments/<name>.yaml`.

    region: absent, the templates suit any region.
    retain_data: keep what was built and captured, its buckets and its key, on updates and on destroy.
    load_test: where `inference load-test --on fargate` runs; absent, load tests run on the machine that starts them.
    private_network: a network without internet that everything stands in; absent, only models may stand in `vpc`.
    images: what this project's images are built on.
    permissions_boundary: name or ARN of a managed policy that bounds every role, those that the CDK makes too.
    """

    environment: str = Field(pattern=r"^[a-z][a-z0-9-]{1,20}$")
    region: str | None = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    profile: Profile = "dev"
    retain_data: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    model_build: ModelBuild = ModelBuild()
    images: Images = Images()
    workloads: Workloads
    vpc: Vpc | None = None
    budget: Budget | None = None
    load_test: LoadTest | None = None
    private_network: PrivateNetwork | None = None
    permissions_boundary: str | None = Field(
        default=None, pattern=r"^(arn:[a-z-]+:iam::(\d{12}|aws):policy/)?[\w+=,.@/-]+$"
    )

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Reads and checks a deployment file; raises DeploymentError."""
        try:
            data = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            others = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
            raise DeploymentError(f"deployment {path.stem!r} is not there; choose one of: {others}") from None
        except (OSError, yaml.YAMLError) as error:
            raise DeploymentError(f"{path.name} cannot be read: {error}") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DeploymentError("\n".join(problem(path.name, detail) for detail in error.errors())) from None

    @classmethod
    def named(cls, name: str) -> "Deployment":
        """The deployment of `deployments/NAME.yaml`, or of a path that ends in .yaml; raises DeploymentError."""
        return cls.load(Path(name) if name.endswith(".yaml") else DEPLOYMENTS / f"{name}.yaml")

    def endpoint_name(self, workload: str, endpoint: str) -> str:
        """Name of an endpoint, stable over updates."""
        return "-".join([self.environment, workload, endpoint]).replace("_", "-")

    def placed(self, vpc: Vpc) -> "Deployment":
        """The deployment whose models and load tests run in that network."""
        tasks = TaskVpc(subnet_ids=vpc.subnet_ids, security_group_ids=vpc.security_group_ids)
        load_test = self.load_test.model_copy(update={"vpc": tasks}) if self.load_test is not None else None
        return self.model_copy(update={"vpc": vpc, "load_test": load_test})

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: Any) -> Any:
        refuse_secrets(data)
        return data

    @model_validator(mode="after")
    def _reachable(self) -> "Deployment":
        if self.private_network is not None:
            load_test_vpc = self.load_test.vpc if self.load_test is not None else None
            check_alone({"vpc": self.vpc, "load_test.vpc": load_test_vpc})
            self.model_build.check_reachable()
            check_sources({name: each.model_dump(mode="json") for name, each in self.workloads.enabled.items()})
        return self

    @model_validator(mode="after")
    def _possible(self) -> "Deployment":
        if not self.workloads.enabled:
            raise ValueError(f"workloads is empty: enable one of {', '.join(Workloads.model_fields)}")
        for workload, key, counts in self._instance_counts():
            where = f"workloads.{workload}.endpoints.{key}"
            name = self.endpoint_name(workload, key)
            if len(name) > ENDPOINT_NAME_LIMIT:
                raise ValueError(f"{where}: the name {name!r} has more than {ENDPOINT_NAME_LIMIT} characters")
            for setting, count in counts.items():
                if self.profile == "prod" and count < 2:
                    raise ValueError(
                        f"{where}.{setting} is {count} in profile prod: give at least 2, so that the loss of one "
                        "zone stops nothing"
                    )
        if self.profile == "prod":
            models = {
                f"workloads.{name}.models": workload.models
                for name, workload in self.workloads.enabled.items()
                if isinstance(workload, Encoder | NeuronEncoder)
            }
            check_revisions(models)
        return self

    def _instance_counts(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """Every endpoint's workload and key, and its instance counts by the path of their setting."""
        if self.workloads.encoder is not None:
            for key, endpoint in self.workloads.encoder.endpoints.items():
                variants = endpoint.enabled_variants.items()
                yield "encoder", key, {f"variants.{name}.instance_count": v.instance_count for name, v in variants}
        if self.workloads.tabular is not None:
            for key, multi_model in self.workloads.tabular.endpoints.items():
                yield "tabular", key, {"instance_count": multi_model.instance_count}
        if self.workloads.saved_model is not None:
            for key, unet in self.workloads.saved_model.endpoints.items():
                yield "saved_model", key, unet.counts
        if self.workloads.neuron_encoder is not None:
            for key, neuron in self.workloads.neuron_encoder.endpoints.items():
                yield "neuron_encoder", key, neuron.counts


def problem(file: str, detail: Any) -> str:
    """One error of pydantic's in a line: file, path of the setting, what is wrong, and what was given."""
    path = ".".join(str(part) for part in detail["loc"]) or "(top level)"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = "" if isinstance(given, dict | list) or repr(given) in message else f" (given: {given!r})"
    return f"{file}: {path}: {message}{shown}"
