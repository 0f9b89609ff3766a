"""What a rate costs on instances, and from where on the dearer-looking choice is the cheaper one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sizing.prices import usd_per_million
from sizing.profiles import ServiceProfile

HOURS_PER_MONTH = 730.0
_MAX_INSTANCES = 10_000


class CostError(ValueError):
    """A cost cannot be computed; the message names the field, the value and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Instances of one kind under a rate.

    usd_per_hour: of an instance. max_rate: requests a second that an instance sustains. safety: share of it that is
    used, above 0 up to 1. min_instances: how few there are without load. extra_usd_per_hour: what the choice costs
    besides its instances, such as a build machine that stands. Raises CostError.
    """

    usd_per_hour: float
    max_rate: float
    safety: float = 0.5
    min_instances: int = 1
    extra_usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        for field in ("usd_per_hour", "max_rate"):
            value = getattr(self, field)
            if not (value > 0 and math.isfinite(value)):
                raise CostError(f"{field} is {value}: give a number above 0")
        if not 0 < self.safety <= 1:
            raise CostError(f"safety is {self.safety}: give a share above 0 and up to 1, such as 0.5")
        if self.min_instances < 0 or self.extra_usd_per_hour < 0:
            raise CostError("min_instances and extra_usd_per_hour are counts from 0 on")

    @property
    def rate_per_instance(self) -> float:
        """Requests a second that an instance is given."""
        return self.max_rate * self.safety

    def instances(self, rate: float) -> int:
        """Instances that a rate in requests a second needs."""
        # A quotient such as 0.3 / 0.1 falls a rounding error short of the whole number that it is.
        return max(self.min_instances, math.ceil(rate / self.rate_per_instance - 1e-9))

    def usd(self, rate: float) -> float:
        """US dollars an hour at a rate."""
        return self.instances(rate) * self.usd_per_hour + self.extra_usd_per_hour

    def usd_per_million(self, rate: float) -> float:
        """US dollars for a million requests at a rate above 0, idle time included."""
        return usd_per_million(self.usd(rate), rate)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of the published tables; relative: times the first row's requests for a dollar."""

    variant: str
    instance_type: str
    place: str
    p50_ms: float
    p90_ms: float
    queries_per_second: float
    usd_per_million: float
    relative: float


def compare(profiles: Sequence[tuple[ServiceProfile, float]], *, utilisation: float = 1.0) -> tuple[Comparison, ...]:
    """The comparison table of profiles with their prices in US dollars an hour; the first is what is compared with.

    utilisation: share of the sustained rate that is used. Published tables take all of it.
    """
    costs = [
        usd_per_million(price, profile.max_rate_per_instance, utilisation=utilisation) for profile, price in profiles
    ]
    return tuple(
        Comparison(
            profile.variant,
            profile.instance_type,
            profile.place,
            profile.alone.quantile(0.5),
            profile.alone.quantile(0.9),
            profile.max_rate_per_instance * utilisation,
            cost,
            costs[0] / cost,
        )
        for (profile, _), cost in zip(profiles, costs, strict=True)
    )


def pays_from(choice: Fleet, than: Fleet) -> float | None:
    """The lowest rate in requests a second above which `choice` costs less; 0 where it does from the start.

    Costs are stairs, so with fixed minimum instances a cheaper request pays only once the other choice needs one more
    instance; above it the two may cost the same again. None where it never pays up to ten thousand instances.
    """
    if choice.usd(0) < than.usd(0):
        return 0.0
    for count in range(max(1, than.min_instances), _MAX_INSTANCES + 1):
        # Right above the rate that fills `count` instances, the other choice needs the next.
        rate = count * than.rate_per_instance
        if choice.usd(rate * (1 + 1e-6)) < than.usd(rate * (1 + 1e-6)):
            return rate
    return None


def models_from_which_sharing_pays(shared: Fleet, single: Fleet, rate: float, most: int = 10_000) -> int | None:
    """The fewest models at which one multi-model endpoint costs less than an endpoint for each, of the same rate.

    rate: requests a second of all models together, spread evenly. shared must be large enough for the working set.
    None where sharing does not pay up to `most` models.
    """
    together = shared.usd(rate)
    return next((count for count in range(2, most + 1) if together < count * single.usd(rate / count)), None)
