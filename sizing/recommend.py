"""Recommend an instance type and count, and explain why the others lost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sizing.costs import HOURS_PER_MONTH, Fleet
from sizing.prices import Price, usd_per_million
from sizing.profiles import ServiceProfile
from sizing.queueing import Queue
from sizing.simulation.endpoint import Routing

SAFETY = 0.5
"""Initial fraction of the maximum rate to aim at ("Load testing your auto scaling configuration", AWS guide)."""
_MOST_INSTANCES = 100_000


class RecommendError(ValueError):
    """Nothing can be recommended; the message says why each candidate lost, or names the field and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Load and latency target to size for. Raises RecommendError for invalid values.

    rate: requests per second at the peak, above 0.
    p99_ms: P99 latency target, in milliseconds.
    safety: fraction of an instance's maximum rate to use.
    min_instances: minimum number of instances.
    routing: random, or to the instance with the fewest outstanding requests, which is modeled as one shared queue.
    """

    rate: float
    p99_ms: float
    safety: float = SAFETY
    min_instances: int = 1
    routing: Routing = "random"

    def __post_init__(self) -> None:
        for field in ("rate", "p99_ms"):
            value = getattr(self, field)
            if not (value > 0 and math.isfinite(value)):
                raise RecommendError(f"{field} is {value}: give a number above 0")
        if not 0 < self.safety <= 1:
            raise RecommendError(f"safety is {self.safety}: give a fraction above 0 and up to 1")
        if self.min_instances < 1:
            raise RecommendError(f"min_instances is {self.min_instances}: give 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A profile with the number of instances that the demand needs.

    p50_ms, p99_ms: predicted latency at the peak.
    target: value for SageMakerVariantInvocationsPerInstance: maximum rate x safety x 60 (AWS guide), or less if the
        P99 needs more instances.
    utilization: fraction of the maximum rate of all instances that the peak uses.
    bound_by: what determines the number of instances.
    """

    profile: ServiceProfile
    price: Price
    instances: int
    p50_ms: float
    p99_ms: float
    target: float
    utilization: float
    bound_by: str
    usd_per_hour: float
    usd_per_million: float

    @property
    def usd_per_month(self) -> float:
        """Cost in US dollars per month with the peak's instances running all the time."""
        return self.usd_per_hour * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate and why it was chosen or lost.

    sized: what it needs; None if it cannot meet the demand.
    """

    profile: ServiceProfile
    sized: Sized | None
    chosen: bool
    reason: str


def recommend(
    profiles: Sequence[ServiceProfile],
    prices: Mapping[str, Price],
    demand: Demand,
    unfit: Callable[[ServiceProfile], str | None] = lambda _: None,
) -> tuple[Verdict, ...]:
    """Return a verdict for every profile, best first: the cheapest that meets the P99 target, and the faster of equals.

    prices: prices by instance type.
    unfit: returns why a profile does not qualify for reasons other than speed, or None if it does.

    Raises RecommendError with every reason if no profile qualifies.
    """
    sized: dict[ServiceProfile, Sized] = {}
    lost: dict[ServiceProfile, str] = {}
    for profile in profiles:
        price, reason = prices.get(profile.instance_type), unfit(profile)
        if reason is not None:
            lost[profile] = reason
        elif price is None:
            lost[profile] = f"no price for {profile.instance_type}: add it with `inference prices refresh --instance`"
        elif (result := size(profile, price, demand)) is None:
            alone = profile.service.quantile(0.99)
            lost[profile] = f"P99 without any wait is {alone:,.1f} ms, over {demand.p99_ms:,.0f}"
        else:
            sized[profile] = result
    if not sized:
        every = "; ".join(f"{profile.name}: {reason}" for profile, reason in lost.items())
        raise RecommendError(f"no candidate serves {demand.rate:g}/s within {demand.p99_ms:g} ms: {every}")
    ordered = sorted(sized.values(), key=lambda each: (each.usd_per_hour, each.p99_ms, each.profile.name))
    best = ordered[0]
    return (
        Verdict(best.profile, best, True, f"cheapest that meets the P99; {best.bound_by}"),
        *(Verdict(each.profile, each, False, _why_lost(each, best)) for each in ordered[1:]),
        *(Verdict(profile, None, False, reason) for profile, reason in lost.items()),
    )


def size(profile: ServiceProfile, price: Price, demand: Demand) -> Sized | None:
    """Return the fewest instances for a demand; None if the service time alone exceeds the P99 target."""
    if profile.service.quantile(0.99) > demand.p99_ms:
        return None
    fleet = Fleet(
        usd_per_hour=price.usd_per_hour,
        max_rate=profile.max_rate_per_instance,
        safety=demand.safety,
        min_instances=demand.min_instances,
    )
    by_rate = fleet.instances(demand.rate)
    few, many = by_rate, by_rate
    while response_ms(profile, demand, many, 0.99) > demand.p99_ms:
        few, many = many + 1, 2 * many
        if many > _MOST_INSTANCES:
            return None
    while few < many:
        middle = (few + many) // 2
        enough = response_ms(profile, demand, middle, 0.99) <= demand.p99_ms
        few, many = (few, middle) if enough else (middle + 1, many)
    hourly = many * price.usd_per_hour
    per_instance = demand.rate / many if many > by_rate else fleet.rate_per_instance
    return Sized(
        profile=profile,
        price=price,
        instances=many,
        p50_ms=response_ms(profile, demand, many, 0.5),
        p99_ms=response_ms(profile, demand, many, 0.99),
        target=60 * per_instance,
        utilization=demand.rate / (many * profile.max_rate_per_instance),
        bound_by=_bound(by_rate, many, demand, fleet),
        usd_per_hour=hourly,
        usd_per_million=usd_per_million(hourly, demand.rate),
    )


def response_ms(profile: ServiceProfile, demand: Demand, instances: int, probability: float) -> float:
    """Predict a quantile of the response time at the peak, in milliseconds; infinite when saturated."""
    shared = instances if demand.routing == "least_outstanding" else 1
    queue = Queue(
        servers=profile.servers * shared,
        rate=demand.rate * shared / instances,
        mean_service=profile.service.mean_ms / 1000,
        scv=profile.service.scv,
    )
    return 1000 * queue.response_quantile(probability, [ms / 1000 for ms in profile.service.points])


def _bound(by_rate: int, needed: int, demand: Demand, fleet: Fleet) -> str:
    if needed > by_rate:
        return f"{needed} instances for the P99, {by_rate} for the rate"
    if by_rate == demand.min_instances and demand.rate <= by_rate * fleet.rate_per_instance:
        return f"the minimum of {demand.min_instances}"
    return f"{needed} for the rate at {demand.safety:.0%} of the maximum"


def _why_lost(each: Sized, best: Sized) -> str:
    times = each.usd_per_hour / best.usd_per_hour
    if math.isclose(times, 1):
        return f"costs the same, but is slower: P99 {each.p99_ms:,.1f} ms against {best.p99_ms:,.1f}"
    return f"costs {times:.2f} times as much: {each.bound_by}"
