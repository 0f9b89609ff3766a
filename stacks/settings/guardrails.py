"""Deployment guardrails: how an update of an endpoint rolls out, within the limits of SageMaker."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from stacks.settings.base import Settings
from stacks.settings.scaling import Scaling
from stacks.settings.scaling import most as most_of

Traffic = Literal["all_at_once", "canary", "linear", "rolling"]
_PERCENT = re.compile(r"^(\d+) ?%$")


class Capacity(Settings):
    """Part of an endpoint's instances, as a count or a percentage."""

    value: int = Field(ge=1)
    """Number of instances, or percentage of them."""
    percent: bool = False
    """Whether `value` is a percentage."""

    def __str__(self) -> str:
        """Return it as a deployment file has it."""
        return f"{self.value}%" if self.percent else f"{self.value} instance{'s' * (self.value != 1)}"

    def share(self, instances: int) -> float:
        """Return the fraction of a number of instances, 0 to 1."""
        return self.value / (100 if self.percent else instances)


def _capacity(value: Any) -> Any:
    """Read `10%` or a number of instances."""
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


_MOST_SECONDS = 28800
"""MaximumExecutionTimeoutInSeconds (BlueGreenUpdatePolicy and RollingUpdatePolicy, SageMaker API reference)."""
_LEAST_DEFAULT_SECONDS = 3600
_START_SECONDS = 1500
"""Time for instances to be found and to start, with the 900 s that their containers may take to load a model."""


class Guardrails(Settings):
    """How an update rolls out and rolls back: blue/green, or batch by batch."""

    traffic: Traffic = "all_at_once"
    """`all_at_once` shifts every request to the new instances in one step, `canary` in two, and `linear` in equal
    steps. All three first start every new instance next to the old ones. `rolling` starts and stops instances batch by
    batch, as an inference component always does."""
    step: Annotated[Capacity | None, BeforeValidator(_capacity, json_schema_input_type=str | int | None)] = None
    """Size of the canary (10% by default, at most 50%), of each linear step (25%, from 10% to 50%) or of each rolling
    batch (50%, from 5% to 50%). Give a percentage of the instances or of an inference component's copies, or a number
    of them."""
    bake_seconds: int = Field(default=120, ge=0, le=3600)
    """How long alarms are watched after each step, in seconds; an alarm that fires rolls the update back. A minute's
    metrics arrive one or two minutes late, so less than 300 sees little."""
    keep_seconds: int = Field(default=0, ge=0, le=3600)
    """How much longer the old instances are kept after the last step of a blue/green update, in seconds."""
    timeout_seconds: int | None = Field(default=None, ge=600, le=_MOST_SECONDS)
    """Timeout of the whole update, in seconds. Without it, an hour, or what the waits and the starts of instances need
    if that is more."""

    @property
    def size(self) -> Capacity:
        """The step that is set or the default; for an update in one step, all instances."""
        return self.step or _STEPS.get(self.traffic, Capacity(value=100, percent=True))

    @property
    def size_of_copies(self) -> Capacity:
        """The batch of an inference component, whose updates are always rolling."""
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
        """Raise ValueError for steps that do not suit the number of an endpoint's instances.

        counts: initial instances of each variant, by the path of their setting. An update keeps the number that scaling
            has reached.
        """
        if self.traffic == "rolling" and len(counts) > 1:
            raise ValueError(
                f"guardrails.traffic is 'rolling' with {len(counts)} variants: SageMaker rolls endpoints of one "
                "variant only; set traffic: linear"
            )
        most = most_of(max(counts.values(), default=0), scaling)
        if self.traffic != "all_at_once":
            for setting, count in (counts if scaling is None else scaling.floors).items():
                if count < 2:
                    raise ValueError(
                        f"guardrails.traffic is {self.traffic!r} and {setting} {count}: a step may cover at most half "
                        f"of the instances, so at least 2 are needed; set {setting} to 2, or traffic: all_at_once"
                    )
                self._check_part(self.size.share(count), f" and {setting} {count}")
            self._check_part(self.size.share(most), f" with up to {most} instances")
        self._check_timeout(self._waits(most), self.timeout(most))

    def check_copies(self, copies: int, scaling: Scaling | None) -> None:
        """Raise ValueError for an update that does not suit an inference component with this number of copies."""
        if self.traffic in ("canary", "linear"):
            raise ValueError(
                f"guardrails.traffic is {self.traffic!r} with an inference_component, which SageMaker updates batch by "
                "batch: set traffic: rolling"
            )
        if self.traffic == "rolling" and self.step is not None and not self.step.percent:
            for setting, count in (
                {"inference_component.copies": copies} if scaling is None else scaling.floors
            ).items():
                # Without copies, there is nothing to roll out.
                if count:
                    self._check_part(self.step.share(count), f" and {setting} {count}")
        most = max(most_of(copies, scaling), 1)
        self._check_timeout(self._waits_of_copies(most), self.timeout_of_copies(most))

    def _check_part(self, share: float, where: str) -> None:
        least, half = _BOUNDS[self.traffic]
        if not least <= share <= half:
            bounds = f"{least:.0%} to 50%" if least else "at most 50%"
            raise ValueError(
                f"{'guardrails.' if where else ''}step is {self.size}{where}: SageMaker takes {bounds} of a variant's "
                f"instances for {self.traffic}; set a percentage or a number in between"
            )

    def timeout(self, most: int) -> int:
        """Return the timeout of an update of up to that many instances, in seconds."""
        return self._timeout(self._waits(most), self._steps(most) if self.traffic == "rolling" else 1)

    def timeout_of_copies(self, most: int) -> int:
        """Return the timeout of an update of up to that many copies of an inference component, in seconds."""
        return self._timeout(self._waits_of_copies(most), _batches(self.size_of_copies, most))

    def _timeout(self, waits: int, starts: int) -> int:
        """Return the timeout that is set, or the default for an update that starts instances that many times."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        return min(max(_LEAST_DEFAULT_SECONDS, waits + starts * _START_SECONDS), _MOST_SECONDS)

    def _steps(self, most: int) -> int:
        return {"all_at_once": 1, "canary": 2}.get(self.traffic) or _batches(self.size, most)

    def _waits(self, most: int) -> int:
        return self._steps(most) * self.bake_seconds + self.keep_seconds

    def _waits_of_copies(self, most: int) -> int:
        return _batches(self.size_of_copies, most) * self.bake_seconds

    def _check_timeout(self, waits: int, timeout: int) -> None:
        if waits > timeout:
            raise ValueError(
                f"guardrails.timeout_seconds is {timeout}: the waits of all steps, with bake_seconds "
                f"{self.bake_seconds} and keep_seconds {self.keep_seconds}, alone take {waits} s; set more, at most "
                f"{_MOST_SECONDS}, or bake for less"
            )


def _batches(size: Capacity, most: int) -> int:
    """Return the number of batches of that size in which so many instances or copies are updated."""
    return math.ceil(round(1 / min(1.0, size.share(most)), 6))


def _switched(value: Any) -> Any:
    """Read `on` and `off`, which are booleans to editors that follow YAML 1.1."""
    if value is True or value == "on":
        return Guardrails()
    return None if value is False or value == "off" else value


GuardrailsSetting = Annotated[
    Guardrails | None,
    BeforeValidator(_switched, json_schema_input_type=Guardrails | bool | Literal["on", "off"] | None),
]
"""Guardrails, or None for `guardrails: off`."""
