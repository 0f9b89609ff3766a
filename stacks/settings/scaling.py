"""How many instances, or copies of an inference component, there are: tracking, steps and schedules as settings."""

import difflib
import zoneinfo
from itertools import pairwise

from pydantic import Field, field_validator, model_validator

from stacks.settings.base import Key, Settings
from stacks.settings.schedules import schedule_problem


class StepAdjustment(Settings):
    """Capacity that a breach of the threshold adds or removes."""

    over: float = Field(ge=0)
    """Invocations per minute and instance, or copy, above the threshold, from which this step applies."""
    change: int
    """Instances or copies to add; negative to remove."""

    @model_validator(mode="after")
    def _changes_something(self) -> "StepAdjustment":
        if not self.change:
            raise ValueError("change is 0: a step must add or remove instances")
        return self


class StepScaling(Settings):
    """Steps by how far invocations are above a threshold, with an alarm of their own next to target tracking.

    Steps react to a spike at once and in proportion. Target tracking waits for three minutes of data points.
    """

    threshold_invocations_per_instance: float | None = Field(default=None, gt=0)
    """Invocations per minute and instance at which the steps begin."""
    threshold_invocations_per_copy: float | None = Field(default=None, gt=0)
    """Invocations per minute and copy of an inference component at which the steps begin."""
    steps: tuple[StepAdjustment, ...] = Field(min_length=1, max_length=20)
    """Steps, from the smallest `over` to the largest."""
    evaluation_periods: int = Field(default=1, ge=1, le=60)
    """Minutes above the threshold before a step applies."""
    cooldown_seconds: int = Field(default=60, ge=0)
    """Cooldown after a step, in seconds."""

    @property
    def threshold(self) -> float:
        """Invocations per minute of each, above which the steps begin."""
        return self.threshold_invocations_per_instance or self.threshold_invocations_per_copy or 0.0

    @model_validator(mode="after")
    def _one_threshold(self) -> "StepScaling":
        if (self.threshold_invocations_per_instance is None) == (self.threshold_invocations_per_copy is None):
            raise ValueError(
                "set threshold_invocations_per_instance, or for an inference component threshold_invocations_per_copy, "
                "one of the two"
            )
        return self

    @model_validator(mode="after")
    def _rising_from_0(self) -> "StepScaling":
        bounds = [step.over for step in self.steps]
        if bounds[0] or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"the steps' over are {bounds}: begin with 0 and let each be larger than the one before")
        return self


class ScheduledScaling(Settings):
    """Other bounds from a moment on, for a known daily rhythm."""

    schedule: str
    """cron(...), rate(...) or at(...) expression of Application Auto Scaling."""
    timezone: str = "Etc/UTC"
    """IANA name of the schedule's time zone, such as Europe/Berlin."""
    min_capacity: int = Field(ge=0)
    """Fewest instances or copies from then on."""
    max_capacity: int = Field(ge=0)
    """Most instances or copies from then on."""

    @field_validator("schedule")
    @classmethod
    def _valid_schedule(cls, schedule: str) -> str:
        if (problem := schedule_problem(schedule)) is not None:
            raise ValueError(f"{schedule!r} is not a schedule of Application Auto Scaling: {problem}")
        return schedule

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, timezone: str) -> str:
        known = sorted(zoneinfo.available_timezones())
        if timezone not in known:
            close = difflib.get_close_matches(timezone, known, n=1, cutoff=0.4)
            hint = f", such as {close[0]}" if close else ""
            raise ValueError(f"{timezone!r} is not the name of a time zone: write an IANA name{hint}")
        return timezone

    @model_validator(mode="after")
    def _possible(self) -> "ScheduledScaling":
        if self.min_capacity > self.max_capacity:
            raise ValueError(f"min_capacity is {self.min_capacity} and max_capacity {self.max_capacity}: swap them")
        return self


class Scaling(Settings):
    """How many instances of each variant there are: target tracking on one metric, steps, and schedules.

    With an inference component it counts the component's copies, which may go to zero. From there a request that finds
    no copy starts the first one, and is itself rejected.
    """

    min_capacity: int = Field(default=1, ge=0)
    """Fewest instances or copies."""
    max_capacity: int = Field(default=4, ge=1)
    """Most instances or copies."""
    target_invocations_per_instance: float | None = Field(default=None, gt=0)
    """Target invocations per minute and instance (SageMakerVariantInvocationsPerInstance, one data point per minute).
    """
    target_concurrent_requests_per_model: float | None = Field(default=None, gt=0)
    """Target requests in flight per model (SageMakerVariantConcurrentRequestsPerModelHighResolution, one data point
    every ten seconds)."""
    target_invocations_per_copy: float | None = Field(default=None, gt=0)
    """Target invocations per minute and copy (SageMakerInferenceComponentInvocationsPerCopy, one data point per
    minute)."""
    target_concurrent_requests_per_copy: float | None = Field(default=None, gt=0)
    """Target requests in flight per copy (SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution, one data
    point every ten seconds)."""
    scale_in_cooldown_seconds: int = Field(default=300, ge=0)
    """Cooldown after a scale-in, in seconds."""
    scale_out_cooldown_seconds: int = Field(default=60, ge=0)
    """Cooldown after a scale-out, in seconds."""
    step: StepScaling | None = None
    """Step scaling, next to target tracking or without it."""
    schedules: dict[Key, ScheduledScaling] = Field(default_factory=dict)
    """Scheduled bounds, by key."""

    @property
    def targets(self) -> dict[str, float]:
        """The targets that are set, by their setting."""
        named = {
            "target_invocations_per_instance": self.target_invocations_per_instance,
            "target_concurrent_requests_per_model": self.target_concurrent_requests_per_model,
            "target_invocations_per_copy": self.target_invocations_per_copy,
            "target_concurrent_requests_per_copy": self.target_concurrent_requests_per_copy,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def target_value(self) -> float | None:
        """The target of the metric that is tracked; None without tracking."""
        return next(iter(self.targets.values()), None)

    @property
    def tracks_concurrency(self) -> bool:
        """Whether the metric that is tracked is the requests in flight."""
        return any("concurrent" in name for name in self.targets)

    @property
    def floors(self) -> dict[str, int]:
        """The least there may be, by the path of the setting: always, and from each schedule's moment on."""
        return {"scaling.min_capacity": self.min_capacity} | {
            f"scaling.schedules.{name}.min_capacity": schedule.min_capacity for name, schedule in self.schedules.items()
        }

    @property
    def most(self) -> int:
        """The most there may ever be."""
        return max(self.max_capacity, *(schedule.max_capacity for schedule in self.schedules.values()), 0)

    @property
    def reaches_zero(self) -> bool:
        """Whether there may be none at some time."""
        return 0 in self.floors.values()

    @model_validator(mode="after")
    def _possible(self) -> "Scaling":
        if self.min_capacity > self.max_capacity:
            raise ValueError(f"min_capacity is {self.min_capacity} and max_capacity {self.max_capacity}: swap them")
        given = list(self.targets)
        if len(given) > 1:
            raise ValueError(
                f"set one of {', '.join(given[:-1])} and {given[-1]}, not {'both' if len(given) == 2 else 'all'}"
            )
        if not given and self.step is None and not self.schedules:
            raise ValueError(
                "nothing scales: set target_invocations_per_instance, target_concurrent_requests_per_model (with an "
                "inference component target_invocations_per_copy, target_concurrent_requests_per_copy), step or "
                "schedules, or leave scaling out"
            )
        return self

    def check_count(self, instance_count: int, where: str) -> None:
        """Raise ValueError unless this can scale instances, with an initial count within bounds above 0."""
        for setting, floor in self.floors.items():
            if not floor:
                raise ValueError(
                    f"{setting} is 0: a variant that holds a model keeps an instance; only an endpoint of inference "
                    "components scales to zero"
                )
        for setting in ("target_invocations_per_copy", "target_concurrent_requests_per_copy"):
            if setting in self.targets:
                raise ValueError(
                    f"scaling.{setting} is {self.targets[setting]:g} without an inference component: set "
                    f"{_OTHER[setting]}"
                )
        if self.step is not None and self.step.threshold_invocations_per_copy is not None:
            raise ValueError(
                "scaling.step.threshold_invocations_per_copy is set without an inference component: set "
                "threshold_invocations_per_instance"
            )
        self._check_bounds(instance_count, where)

    def check_copies(self, copies: int, where: str) -> None:
        """Raise ValueError unless this can scale an inference component's copies, initially within bounds."""
        for setting in ("target_invocations_per_instance", "target_concurrent_requests_per_model"):
            if setting in self.targets:
                raise ValueError(
                    f"scaling.{setting} is {self.targets[setting]:g} with an inference component, whose copies are "
                    f"scaled: set {_OTHER[setting]}"
                )
        if self.step is not None and self.step.threshold_invocations_per_instance is not None:
            raise ValueError(
                "scaling.step.threshold_invocations_per_instance is set with an inference component, whose copies are "
                "scaled: set threshold_invocations_per_copy"
            )
        self._check_bounds(copies, where)

    def _check_bounds(self, count: int, where: str) -> None:
        if not self.min_capacity <= count <= self.max_capacity:
            raise ValueError(
                f"{where} is {count}: it must lie between scaling.min_capacity {self.min_capacity} and "
                f"max_capacity {self.max_capacity}"
            )


def most(initial: int, scaling: Scaling | None) -> int:
    """Return the most instances or copies that there may be, given their initial number."""
    return initial if scaling is None else max(initial, scaling.most)


_OTHER = {
    "target_invocations_per_copy": "target_invocations_per_instance",
    "target_concurrent_requests_per_copy": "target_concurrent_requests_per_model",
    "target_invocations_per_instance": "target_invocations_per_copy",
    "target_concurrent_requests_per_model": "target_concurrent_requests_per_copy",
}
"""The setting that means the same of an instance and of a copy."""
