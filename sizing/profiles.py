"""Measured profiles of a workload on an instance type: service times, and the sustained rate."""

import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sizing.service_times import ServiceTimes
from sizing.text_files import read_text

RECORDED = Path(__file__).parent / "profiles.json"
_SLACK = 1.25
"""Factor by which a measured rate may exceed what concurrency and service times allow, before it is rejected."""
_EXACT = 0.95
"""Tolerance for rounding up the number of servers: a rate barely above a whole number of servers needs only that
many."""


class ProfileError(ValueError):
    """A profile is missing or cannot be read; the message names the field, the value and the fix."""


class ServiceProfile(BaseModel):
    """Performance of one variant of a workload on one instance type.

    quantiles_ms: service time without waiting, in milliseconds at increasing probabilities, such as
        [[0.5, 35.7], [0.9, 48.9]].
    concurrency: requests that an instance serves at the same time.
    max_rate_per_instance: requests per second that an instance sustains.
    place: where it was measured; "published" means on AWS, by others.
    samples: number of requests behind the quantiles; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workload: str = Field(min_length=1)
    variant: str = Field(min_length=1)
    instance_type: str = Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    quantiles_ms: tuple[tuple[float, float], ...] = Field(min_length=1)
    concurrency: int = Field(ge=1)
    max_rate_per_instance: float = Field(gt=0)
    place: Literal["local", "aws", "published"]
    machine: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    samples: int | None = Field(default=None, ge=1)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> "ServiceProfile":
        most = self.concurrency * 1000 / self.alone.mean_ms
        if self.max_rate_per_instance > _SLACK * most:
            raise ValueError(
                f"max_rate_per_instance is {self.max_rate_per_instance:g}/s, but {self.concurrency} at a time of "
                f"{self.alone.mean_ms:.3g} ms each allow only {most:.3g}/s: raise concurrency, or correct the rate"
            )
        return self

    @cached_property
    def alone(self) -> ServiceTimes:
        """Service times as measured, without waiting."""
        return ServiceTimes(self.quantiles_ms)

    @cached_property
    def servers(self) -> int:
        """Number of parallel servers that explains the sustained rate at the measured times, up to the concurrency.

        Workers that share cores count as fewer servers.
        """
        busy = self.max_rate_per_instance * self.alone.mean_ms / 1000
        return min(self.concurrency, max(1, math.ceil(_EXACT * busy)))

    @cached_property
    def service(self) -> ServiceTimes:
        """Service times on a busy instance: the measured ones, scaled so that its servers sustain the rate."""
        return self.alone.stretched(self.servers * 1000 / self.max_rate_per_instance / self.alone.mean_ms)

    @property
    def name(self) -> str:
        """Variant, instance type and place, for tables."""
        return f"{self.variant} on {self.instance_type} ({self.place})"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: tuple[ServiceProfile, ...] = Field(min_length=1)


def read_profiles(path: Path | None = None) -> tuple[ServiceProfile, ...]:
    """Read the profiles in a JSON file, {"profiles": [...]}, or the recorded ones without a path.

    Raises ProfileError.
    """
    path = path or RECORDED
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path.name} cannot be read as JSON: {error}") from error
    try:
        return _File.model_validate(content).profiles
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        given = "" if first["type"] == "missing" else f" (given: {str(first['input'])[:80]})"
        raise ProfileError(f"{path.name}: {where}: {first['msg'].removeprefix('Value error, ')}{given}") from error


def of_workload(profiles: Sequence[ServiceProfile], workload: str) -> tuple[ServiceProfile, ...]:
    """Return the profiles of a workload; raises ProfileError if there are none."""
    matches = tuple(profile for profile in profiles if profile.workload == workload)
    if not matches:
        known = ", ".join(sorted({profile.workload for profile in profiles}))
        raise ProfileError(f"workload is {workload!r}: there are profiles of {known}; give others with --measured")
    return matches
