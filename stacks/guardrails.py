"""Deployment guardrails: how an update of an endpoint goes out, and what SageMaker refuses of it."""

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from stacks.frozen import Settings
from stacks.hosting_settings import InstanceType
from stacks.scaling_settings import Scaling

Traffic = Literal["all_at_once", "canary", "linear", "rolling"]
_WITHOUT_GUARDRAILS = re.compile(r"^ml\.inf1\.")
""""Exclusions" of deployment guardrails in the SageMaker developer guide: endpoints on Inf1."""
_PERCENT = re.compile(r"^(\d+) ?%$")


class Capacity(Settings):
    """A part of an endpoint's instances: so many of them, or so many percent."""

    value: int = Field(ge=1)
    percent: bool = False

    def __str__(self) -> str:
        """As it stands in a deployment file."""
        return f"{self.value}%" if self.percent else f"{self.value} instance{'s' * (self.value != 1)}"

    def share(self, instances: int) -> float:
        """The part of so many instances, from 0 to 1."""
        return self.value / (100 if self.percent else instances)


def _capacity(value: Any) -> Any:
    """`10%` or a number of instances."""
    if isinstance(value, str) and (match := _PERCENT.match(value)):
        return {"value": int(match[1]), "percent": True}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"value": value}
    if value is None or isinstance(value, Capacity | Mapping):
        return value
    raise ValueError(f"{value!r} is neither a percentage such as 10% nor a number of instances such as 1")


_BOUNDS: dict[Traffic, tuple[float, float]] = {"canary": (0.0, 0.5), "linear": (0.1, 0.5), "rolling": (0.05, 0.5)}
"""Parts of a variant's instances (TrafficRoutingConfig and RollingUpdatePolicy, SageMaker API reference)."""
_STEPS: dict[Traffic, Capacity] = {
    "canary": Capacity(value=10, percent=True),
    "linear": Capacity(value=25, percent=True),
    "rolling": Capacity(value=50, percent=True),
}


class Guardrails(Settings):
    """How an update goes out and comes back: blue/green, or batch by batch.

    traffic: `all_at_once` moves every request to the new instances in one step, `canary` in two, `linear` in equal
        steps; all three start every new instance beside the old ones first. `rolling` starts and ends instances batch
        by batch, as an inference component always does.
    step: the canary (10%, at most 50%), each linear step (25%, from 10% to 50%) or each batch (50%, from 5% to 50%):
        a percentage of the instances, or of an inference component's copies, or a number of them.
    bake_seconds: how long the alarms are watched after each step; one that alarms takes everything back. A minute's
        metrics arrive a minute or two later, so that less than 300 sees little.
    keep_seconds: how much longer the old instances are kept after the last step, for a blue/green update.
    timeout_seconds: of the whole update.
    """

    traffic: Traffic = "all_at_once"
    step: Annotated[Capacity | None, BeforeValidator(_capacity)] = None
    bake_seconds: int = Field(default=120, ge=0, le=3600)
    keep_seconds: int = Field(default=0, ge=0, le=3600)
    timeout_seconds: int = Field(default=1800, ge=600, le=28800)

    @property
    def size(self) -> Capacity:
        """The step, as set or by default; of an update in one step the whole."""
        return self.step or _STEPS.get(self.traffic, Capacity(value=100, percent=True))

    @property
    def size_of_copies(self) -> Capacity:
        """The batch of an inference component, which is rolling whatever the traffic."""
        return self.size if self.traffic == "rolling" else _STEPS["rolling"]

    @model_validator(mode="after")
    def _possible(self) -> "Guardrails":
        if self.traffic == "all_at_once" and self.step is not None:
            raise ValueError(
                f"step is {self.step} with traffic 'all_at_once', which has one step: remove it, or set traffic: "
                "canary, linear or rolling"
            )
        if self.traffic == "rolling" and self.keep_seconds:
            raise ValueError(
                f"keep_seconds is {self.keep_seconds} with traffic 'rolling', which ends old instances batch by batch: "
                "remove it, or set traffic: canary or linear"
            )
        if self.size.percent and self.traffic != "all_at_once":
            self._check_part(self.size.value / 100, "")
        return self

    def check(self, counts: Mapping[str, int], scaling: Scaling | None) -> None:
        """Raises ValueError for steps that an endpoint's instances cannot take.

        counts: the instances that each variant begins with, by the path of their setting; an update keeps the number
            that scaling has made of them.
        """
        if self.traffic == "rolling" and len(counts) > 1:
            raise ValueError(
                f"guardrails.traffic is 'rolling' with {len(counts)} variants: SageMaker rolls endpoints of one "
                "variant only; set traffic: linear"
            )
        most = max([*counts.values(), 0 if scaling is None else scaling.most])
        if self.traffic != "all_at_once":
            for setting, count in (counts if scaling is None else scaling.floors).items():
                if count < 2:
                    raise ValueError(
                        f"guardrails.traffic is {self.traffic!r} and {setting} {count}: half of the instances is the "
                        f"most that a step may be, and there is no half of one; set {setting} 2, or traffic: "
                        "all_at_once"
                    )
                self._check_part(self.size.share(count), f" and {setting} {count}")
            self._check_part(self.size.share(most), f" with up to {most} instances")
        self._check_timeout(most)

    def check_copies(self, copies: int, scaling: Scaling | None) -> None:
        """Raises ValueError for what an update of an inference component with so many copies cannot do."""
        if self.traffic in ("canary", "linear"):
            raise ValueError(
                f"guardrails.traffic is {self.traffic!r} with an inference_component, which SageMaker updates batch by "
                "batch: set traffic: rolling"
            )
        if self.traffic == "rolling" and self.step is not None and not self.step.percent:
            for setting, count in (
                {"inference_component.copies": copies} if scaling is None else scaling.floors
            ).items():
                # Where there are none, there is nothing to roll.
                if count:
                    self._check_part(self.step.share(count), f" and {setting} {count}")
        self._check_timeout(max(copies, 0 if scaling is None else scaling.most, 1))

    def _check_part(self, share: float, where: str) -> None:
        least, half = _BOUNDS[self.traffic]
        if not least <= share <= half:
            bounds = f"{least:.0%} to 50%" if least else "at most 50%"
            raise ValueError(
                f"{'guardrails.' if where else ''}step is {self.size}{where}: SageMaker takes {bounds} of a variant's "
                f"instances for {self.traffic}; set a percentage or a number in between"
            )

    def _check_timeout(self, most: int) -> None:
        steps = {"all_at_once": 1, "canary": 2}.get(self.traffic)
        if steps is None:
            steps = math.ceil(round(1 / min(1.0, self.size.share(most)), 6))
        waits = steps * self.bake_seconds + self.keep_seconds
        if waits > self.timeout_seconds:
            raise ValueError(
                f"guardrails.timeout_seconds is {self.timeout_seconds}: {steps} steps with bake_seconds "
                f"{self.bake_seconds} and keep_seconds {self.keep_seconds} alone take {waits} s; set more, at most "
                "28800, or bake for less"
            )


def _switched(value: Any) -> Any:
    """`on` and `off`, which are booleans in YAML."""
    if value is True or value == "on":
        return Guardrails()
    return None if value is False or value == "off" else value


def check_shadows(variants: Mapping[str, tuple[float, bool]]) -> None:
    """Raises ValueError for shadow variants that SageMaker refuses. variants: weight, and whether it is a shadow."""
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
            f"variants.{name}.weight is {weight:g} and variants.{served}.weight {most:g}: the shadow's divided by the "
            f"other's is the share of requests that it gets a copy of; set one above 0 and at most {most:g}"
        )


class GuardedEndpoint(Settings):
    """What every endpoint has: deployment guardrails, or `guardrails: off`."""

    guardrails: Annotated[Guardrails | None, BeforeValidator(_switched)] = Guardrails()

    @property
    @abstractmethod
    def instance_types(self) -> Mapping[str, str]:
        """The endpoint's instance types, by the path of their setting."""

    @property
    @abstractmethod
    def instance_counts(self) -> Mapping[str, int]:
        """How many instances each variant begins with, by the path of the setting."""

    def check_guardrails(self, scaling: Scaling | None) -> None:
        """Raises ValueError for guardrails whose steps the endpoint's instances cannot take."""
        if self.guardrails is not None:
            self.guardrails.check(self.instance_counts, scaling)

    @model_validator(mode="after")
    def _guardrails_possible(self) -> "GuardedEndpoint":
        if self.guardrails is None:
            return self
        for setting, instance_type in self.instance_types.items():
            if _WITHOUT_GUARDRAILS.match(instance_type):
                raise ValueError(
                    f"{setting} is {instance_type!r} with guardrails: SageMaker has none on Inf1, where an update "
                    "shifts all traffic at once, watches no alarm and rolls nothing back; set guardrails: off, or use "
                    "ml.inf2"
                )
        return self


class SingleVariantEndpoint(GuardedEndpoint):
    """An endpoint whose instances are all of one variant."""

    instance_type: InstanceType
    instance_count: int = Field(default=1, ge=1)

    def check_instances(self, scaling: Scaling | None) -> None:
        """Raises ValueError for a count outside the bounds of scaling, or too small for the guardrails' steps."""
        if scaling is not None:
            scaling.check_count(self.instance_count, "instance_count")
        self.check_guardrails(scaling)

    @property
    def instance_types(self) -> dict[str, str]:
        """The endpoint's one instance type, by its setting."""
        return {"instance_type": self.instance_type}

    @property
    def instance_counts(self) -> dict[str, int]:
        """How many instances there are to begin with, by the path of the setting."""
        return {"instance_count": self.instance_count}
