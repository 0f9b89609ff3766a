"""Which instance type, how many, and why not the others."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sizing.costs import HOURS_PER_MONTH, Fleet
from sizing.prices import Price, usd_per_million
from sizing.profiles import ServiceProfile
from sizing.queueing import Queue
from sizing.simulation.endpoint import Routing

SAFETY = 0.5
"""Share of the maximum rate to aim at, to begin with ("Load testing your auto scaling configuration", AWS guide)."""
_MOST_INSTANCES = 100_000


class RecommendError(ValueError):
    """Nothing can be recommended; the message says why each candidate lost, or names the field and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """rate: requests a second at the peak, above 0. p99_ms: that answers must keep. Raises RecommendError.

    safety: share of an instance's maximum rate that is used. min_instances: how few there may be. routing: at random,
    or to the instance with the fewest requests, which is taken to be as good as one line for all.
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
            raise RecommendError(f"safety is {self.safety}: give a share above 0 and up to 1")
        if self.min_instances < 1:
            raise RecommendError(f"min_instances is {self.min_instances}: give 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A profile on as many instances as the demand needs.

    p99_ms: predicted at the peak. target: of SageMakerVariantInvocationsPerInstance, which is maximum rate x safety x
    60 (AWS guide), or less where the P99 needs more instances. utilisation: share of the maximum rate of all instances
    that the peak uses. bound_by: what the number of instances comes from.
    """

    profile: ServiceProfile
    price: Price
    instances: int
    p50_ms: float
    p99_ms: float
    target: float
    utilisation: float
    bound_by: str
    usd_per_hour: float
    usd_per_million: float

    @property
    def usd_per_month(self) -> float:
        """At the peak's instances all the time."""
        return self.usd_per_hour * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate, what it would need, None where it cannot do it, and why it was chosen or lost."""

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
    """A verdict for every profile, the chosen one first: the cheapest that keeps the P99, of equals the faster.

    prices: by instance type. unfit: says why a profile cannot be taken for a reason besides speed, None where it can.
    Raises RecommendError with every reason where no profile can be taken.
    """
    sized: dict[ServiceProfile, Sized] = {}
    lost: dict[ServiceProfile, str] = {}
    for profile in profiles:
        price, reason = prices.get(profile.instance_type), unfit(profile)
        if reason is not None:
            lost[profile] = reason
        elif price is None:
            lost[profile] = f"no price of {profile.instance_type}: add it by `inference prices refresh --instance`"
        elif (found := size(profile, price, demand)) is None:
            alone = profile.service.quantile(0.99)
            lost[profile] = f"P99 without any wait is {alone:,.1f} ms, over {demand.p99_ms:,.0f}"
        else:
            sized[profile] = found
    if not sized:
        every = "; ".join(f"{profile.name}: {reason}" for profile, reason in lost.items())
        raise RecommendError(f"no candidate serves {demand.rate:g}/s within {demand.p99_ms:g} ms: {every}")
    ordered = sorted(sized.values(), key=lambda each: (each.usd_per_hour, each.p99_ms, each.profile.name))
    best = ordered[0]
    return (
        Verdict(best.profile, best, True, f"cheapest that keeps the P99; {best.bound_by}"),
        *(Verdict(each.profile, each, False, _why_lost(each, best)) for each in ordered[1:]),
        *(Verdict(profile, None, False, reason) for profile, reason in lost.items()),
    )


def size(profile: ServiceProfile, price: Price, demand: Demand) -> Sized | None:
    """The fewest instances for a demand; None where the service time alone is over the P99."""
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
        utilisation=demand.rate / (many * profile.max_rate_per_instance),
        bound_by=_bound(by_rate, many, demand, fleet),
        usd_per_hour=hourly,
        usd_per_million=usd_per_million(hourly, demand.rate),
    )


def response_ms(profile: ServiceProfile, demand: Demand, instances: int, probability: float) -> float:
    """The predicted response time in ms at the peak; infinite when saturated."""
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
        return f"costs the same, and is slower: P99 {each.p99_ms:,.1f} ms against {best.p99_ms:,.1f}"
    return f"costs {times:.2f} times as much: {each.bound_by}"
