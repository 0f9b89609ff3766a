"""Cost of a request rate on instances, and break-even points between two choices."""

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
    """Instances of one kind under load. Raises CostError for invalid values.

    usd_per_hour: price of one instance, in US dollars per hour.
    max_rate: requests per second that one instance sustains.
    safety: fraction of max_rate to use, above 0 up to 1.
    min_instances: number of instances without load.
    extra_usd_per_hour: cost of the choice in addition to its instances, such as a permanently running build machine.
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
            raise CostError(f"safety is {self.safety}: give a fraction above 0 and up to 1, such as 0.5")
        if self.min_instances < 0 or self.extra_usd_per_hour < 0:
            raise CostError(
                f"min_instances is {self.min_instances} and extra_usd_per_hour is {self.extra_usd_per_hour}: "
                "give numbers from 0"
            )

    @property
    def rate_per_instance(self) -> float:
        """Planned load of one instance, in requests per second."""
        return self.max_rate * self.safety

    def instances(self, rate: float) -> int:
        """Return the number of instances needed for a rate in requests per second."""
        # Rounding can put a quotient just above a whole number; do not count another instance for that.
        return max(self.min_instances, math.ceil(rate / self.rate_per_instance - 1e-9))

    def usd(self, rate: float) -> float:
        """Return the cost in US dollars per hour at a rate."""
        return self.instances(rate) * self.usd_per_hour + self.extra_usd_per_hour

    def usd_per_million(self, rate: float) -> float:
        """Return the cost in US dollars of a million requests at a rate above 0, including idle time."""
        return usd_per_million(self.usd(rate), rate)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of the published comparison tables.

    relative: requests per dollar, relative to the first row's.
    """

    variant: str
    instance_type: str
    place: str
    p50_ms: float
    p90_ms: float
    queries_per_second: float
    usd_per_million: float
    relative: float


def compare(profiles: Sequence[tuple[ServiceProfile, float]], *, utilization: float = 1.0) -> tuple[Comparison, ...]:
    """Return the comparison table of profiles with their prices in US dollars per hour; the first is the baseline.

    utilization: fraction of the sustained rate in use. Published tables assume 1.
    """
    costs = [
        usd_per_million(price, profile.max_rate_per_instance, utilization=utilization) for profile, price in profiles
    ]
    return tuple(
        Comparison(
            profile.variant,
            profile.instance_type,
            profile.place,
            profile.alone.quantile(0.5),
            profile.alone.quantile(0.9),
            profile.max_rate_per_instance * utilization,
            cost,
            costs[0] / cost,
        )
        for (profile, _), cost in zip(profiles, costs, strict=True)
    )


def pays_from(choice: Fleet, than: Fleet) -> float | None:
    """Return the lowest rate in requests per second above which `choice` costs less; 0 if it always does.

    Costs are step functions. With a fixed minimum number of instances, a lower cost per request pays off only once the
    other choice needs one more instance, and above that rate the two may cost the same again. Returns None if it never
    pays off up to ten thousand instances.
    """
    if choice.usd(0) < than.usd(0):
        return 0.0
    for count in range(max(1, than.min_instances), _MAX_INSTANCES + 1):
        # Just above the rate that fills `count` instances, the other choice needs one more.
        rate = count * than.rate_per_instance
        if choice.usd(rate * (1 + 1e-6)) < than.usd(rate * (1 + 1e-6)):
            return rate
    return None


def models_from_which_sharing_pays(shared: Fleet, single: Fleet, rate: float, most: int = 10_000) -> int | None:
    """Return the smallest number of models for which one multi-model endpoint costs less than one endpoint per model.

    shared: the multi-model endpoint's fleet, which must be large enough for the working set.
    rate: requests per second of all models together, spread evenly.
    most: number of models up to which to look; None is returned if sharing does not pay off up to there.
    """
    together = shared.usd(rate)
    return next((count for count in range(2, most + 1) if together < count * single.usd(rate / count)), None)
