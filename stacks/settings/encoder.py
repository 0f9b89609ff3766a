"""Settings of the kind `encoder`: models, and endpoints with FP32 and INT8 variants."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from model_build.encoder.recipe import EncoderRecipe, Precision
from stacks.settings.base import Key, Settings
from stacks.settings.endpoint import CapturedEndpoint, VariantName
from stacks.settings.instance_types import X86, Avx512Vnni, InstanceType, Need, check_needs
from stacks.settings.models import ModelsWorkload


class Variant(Settings):
    """A production variant; its name is the TargetVariant of InvokeEndpoint."""

    precision: Precision
    """Precision of the model that the variant serves."""
    instance_type: InstanceType = "ml.c6i.2xlarge"
    """SageMaker instance type."""
    instance_count: int = Field(default=1, ge=1)
    """Initial number of instances."""
    weight: float = Field(default=1.0, ge=0)
    """Share of the requests that name no variant, relative to the weights of the others."""
    shadow: bool = False
    """Send the variant copies of the other variant's requests and discard its responses. The share of requests that are
    copied is its weight divided by the other's."""
    enabled: bool = True
    """Whether the variant is deployed."""

    @property
    def needs(self) -> Sequence[Need]:
        """What the container needs of its instances."""
        return (X86(), Avx512Vnni()) if self.precision == "int8" else (X86(),)

    @model_validator(mode="after")
    def _runs_on_its_instances(self) -> "Variant":
        check_needs("instance_type", self.instance_type, self.needs)
        return self


class EncoderEndpoint(CapturedEndpoint):
    """One real-time endpoint, whose variants serve the same model in FP32 or INT8."""

    model: Key
    """Key in `models`."""
    variants: dict[VariantName, Variant] = Field(min_length=1)
    """Production variants by name."""

    @property
    def enabled_variants(self) -> dict[str, Variant]:
        """Return the enabled variants."""
        return {name: variant for name, variant in self.variants.items() if variant.enabled}

    @property
    def instance_types(self) -> dict[str, str]:
        """The enabled variants' instance types, by the path of their setting."""
        return {f"variants.{name}.instance_type": v.instance_type for name, v in self.enabled_variants.items()}

    @property
    def production_variants(self) -> dict[str, Variant]:
        """Return the enabled variants whose responses clients receive."""
        return {name: variant for name, variant in self.enabled_variants.items() if not variant.shadow}

    @property
    def variant_types(self) -> dict[str, str]:
        """Instance types of the enabled variants, shadow variants included."""
        return {name: variant.instance_type for name, variant in self.enabled_variants.items()}

    @property
    def production_types(self) -> dict[str, str]:
        """Instance types of the production variants."""
        return {name: variant.instance_type for name, variant in self.production_variants.items()}

    @property
    def minimum_counts(self) -> dict[str, int]:
        """Initial instance counts of the enabled variants, by the path of the setting."""
        return {f"variants.{name}.instance_count": v.instance_count for name, v in self.enabled_variants.items()}

    @property
    def instance_counts(self) -> dict[str, int]:
        """Return the initial instance counts of the production variants, by the path of the setting."""
        return {f"variants.{name}.instance_count": v.instance_count for name, v in self.production_variants.items()}

    @model_validator(mode="after")
    def _possible(self) -> "EncoderEndpoint":
        enabled = self.enabled_variants
        if not enabled:
            raise ValueError(f"no variant is enabled: enable one of {', '.join(self.variants)} or remove the endpoint")
        if len(enabled) > 10:
            raise ValueError(f"{len(enabled)} variants are enabled: SageMaker allows 10 per endpoint; split it in two")
        if not any(variant.weight for variant in enabled.values()):
            raise ValueError("every weight is 0: give at least one enabled variant a weight above 0")
        check_shadows({name: (variant.weight, variant.shadow) for name, variant in enabled.items()})
        if self.scaling is not None:
            for name, variant in self.production_variants.items():
                self.scaling.check_count(variant.instance_count, f"variants.{name}.instance_count")
        self.check_guardrails(self.scaling)
        return self


class Encoder(ModelsWorkload[EncoderRecipe]):
    """Transformer encoders on CPU instances: models to build, and endpoints that serve them."""

    kind: Literal["encoder"] = "encoder"
    """Kind of the workload."""

    endpoints: dict[Key, EncoderEndpoint] = Field(min_length=1)
    """Endpoints by key."""

    @model_validator(mode="after")
    def _known_models(self) -> "Encoder":
        self.check_models(self.endpoints)
        return self

    @property
    def served(self) -> Mapping[str, EncoderEndpoint]:
        """Everything under `endpoints`, by key."""
        return self.endpoints


def check_shadows(variants: Mapping[str, tuple[float, bool]]) -> None:
    """Raise ValueError for shadow variants that SageMaker refuses; variants: weight, and whether it is a shadow."""
    shadows = {name: weight for name, (weight, shadow) in variants.items() if shadow}
    production = {name: weight for name, (weight, shadow) in variants.items() if not shadow}
    if not shadows:
        return
    if len(shadows) > 1 or len(production) != 1:
        raise ValueError(
            f"variants.{next(iter(shadows))}.shadow is true with {len(production)} production and {len(shadows)} "
            "shadow variants enabled: SageMaker takes one of each; disable the others"
        )
    ((name, weight),), ((served, most),) = shadows.items(), production.items()
    if not 0 < weight <= most:
        raise ValueError(
            f"variants.{name}.weight is {weight:g} and variants.{served}.weight {most:g}: the shadow weight divided by "
            "the production weight is the fraction of requests copied to the shadow; set the shadow weight above 0 "
            f"and at most {most:g}"
        )
