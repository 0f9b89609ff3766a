"""Settings that every entry of a workload's `endpoints` has, whatever serves it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from sizing.instances import instance
from stacks.settings.base import Settings
from stacks.settings.guardrails import Guardrails, GuardrailsSetting
from stacks.settings.hosting import ONLY_VARIANT, DataCapture, EndpointAlarms
from stacks.settings.instance_types import X86, InstanceType, Need, check_needs
from stacks.settings.regions import WITHOUT_INFERENCE_COMPONENTS
from stacks.settings.scaling import Scaling, most

VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9](-*[A-Za-z0-9]){0,62}$")]


class WorkloadEndpoint(Settings):
    """Anything that serves a workload: a SageMaker endpoint, or servers on EC2."""

    alarms: EndpointAlarms = EndpointAlarms()
    """Thresholds of the CloudWatch alarms."""

    @property
    @abstractmethod
    def minimum_counts(self) -> Mapping[str, int]:
        """The fewest instances or copies that serve, by the path of the setting."""

    @property
    def scales(self) -> bool:
        """Whether load changes the number of instances or copies."""
        return False

    def check_region(self, region: str) -> None:
        """Raise ValueError for a region that lacks what the endpoint needs."""


class SageMakerEndpoint(WorkloadEndpoint):
    """A SageMaker real-time endpoint."""

    multi_model: ClassVar[bool] = False
    """Whether SageMaker hosts it in MultiModel mode."""

    guardrails: GuardrailsSetting = Guardrails()
    """How updates roll out and roll back; `off` for none."""
    scaling: Scaling | None = None
    """How the number of instances or copies follows the load. Without it, it stays as deployed."""

    @property
    @abstractmethod
    def instance_types(self) -> Mapping[str, str]:
        """The endpoint's instance types, by the path of their setting."""

    @property
    @abstractmethod
    def instance_counts(self) -> Mapping[str, int]:
        """Initial instance counts of the production variants, by the path of the setting."""

    @property
    @abstractmethod
    def variant_types(self) -> Mapping[str, str]:
        """Instance types by variant, in the order of the settings, shadow variants included."""

    @property
    def needs(self) -> Sequence[Need]:
        """What the container needs of its instances. A kind adds its own."""
        return (X86(),)

    @property
    def production_types(self) -> Mapping[str, str]:
        """Instance types by production variant: the variants whose responses reach a client."""
        return self.variant_types

    @property
    def hosts_component(self) -> bool:
        """Whether the model is an inference component rather than a part of each variant."""
        return False

    @property
    def captures(self) -> DataCapture | None:
        """Which requests and responses are stored; None for none."""
        return None

    @property
    def scales(self) -> bool:
        """Whether load changes the number of instances or copies."""
        return self.scaling is not None

    def check_region(self, region: str) -> None:
        """Raise ValueError for a region without inference components where the model is one."""
        if self.hosts_component and region in WITHOUT_INFERENCE_COMPONENTS:
            raise ValueError(
                f"inference_component is set and region is {region!r}: CloudFormation has no inference components "
                "there; remove inference_component, or use another region"
            )

    @property
    def most_instances(self) -> int:
        """Return the most instances that a variant may have."""
        return most(max(self.instance_counts.values(), default=0), self.scaling)

    @property
    def variant_instances(self) -> Sequence[tuple[str, int]]:
        """Return the instance type and the initial number of instances of each variant, shadow variants included."""
        return list(zip(self.variant_types.values(), self.minimum_counts.values(), strict=True))

    def check_guardrails(self, scaling: Scaling | None) -> None:
        """Raise ValueError for guardrails whose steps the endpoint's instances cannot take."""
        if self.guardrails is not None:
            self.guardrails.check(self.instance_counts, scaling)

    @model_validator(mode="after")
    def _runs_on_its_instances(self) -> "SageMakerEndpoint":
        for setting, instance_type in self.instance_types.items():
            check_needs(setting, instance_type, self.needs)
        return self

    @model_validator(mode="after")
    def _guardrails_possible(self) -> "SageMakerEndpoint":
        if self.guardrails is None:
            return self
        for setting, instance_type in self.instance_types.items():
            if not instance(instance_type).family.guardrails:
                raise ValueError(
                    f"{setting} is {instance_type!r} with guardrails: SageMaker has none on Inf1, where an update "
                    "shifts all traffic at once, watches no alarm and rolls nothing back; set guardrails: off, or use "
                    "ml.inf2"
                )
        return self


class SingleVariantEndpoint(SageMakerEndpoint):
    """A SageMaker endpoint whose instances all belong to one variant."""

    instance_type: InstanceType
    """SageMaker instance type."""
    instance_count: int = Field(default=1, ge=1)
    """Initial number of instances."""

    def check_instances(self, scaling: Scaling | None) -> None:
        """Raise ValueError for a count outside the bounds of scaling, or too small for the guardrails' steps."""
        if scaling is not None:
            scaling.check_count(self.instance_count, "instance_count")
        self.check_guardrails(scaling)

    @property
    def instance_types(self) -> dict[str, str]:
        """The endpoint's one instance type, by its setting."""
        return {"instance_type": self.instance_type}

    @property
    def instance_counts(self) -> dict[str, int]:
        """The initial instance count, by the path of the setting."""
        return {"instance_count": self.instance_count}

    @property
    def minimum_counts(self) -> Mapping[str, int]:
        """The initial instance count, by the path of the setting."""
        return self.instance_counts

    @property
    def variant_types(self) -> dict[str, str]:
        """The instance type of the only variant."""
        return {ONLY_VARIANT: self.instance_type}


class CapturedEndpoint(SageMakerEndpoint):
    """A SageMaker endpoint that can capture requests and responses; multi-model endpoints here do not."""

    data_capture: DataCapture | None = None
    """Sample of requests and responses to store. Without it, none."""

    @property
    def captures(self) -> DataCapture | None:
        """Which requests and responses are stored; None for none."""
        return self.data_capture
