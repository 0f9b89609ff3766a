"""Choose hosting, instance type, instance count, scaling target and cost for a rate and a P99 latency target."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sizing.costs import Comparison, Fleet, compare, models_from_which_sharing_pays, pays_from
from sizing.facts import Facts
from sizing.hosting import SERVERLESS_CONCURRENCY, Decision, Needs, decide, serverless_usd_per_hour
from sizing.prices import DEFAULT_REGION, price, priced_types
from sizing.profiles import ServiceProfile, of_workload, read_profiles
from sizing.recommend import SAFETY, Demand, Sized, Verdict, recommend
from sizing.simulation.endpoint import Routing

_SPARE = 2
"""Factor by which suggested maximums, of instances or concurrent requests, exceed what the peak needs."""


class SizeError(ValueError):
    """Invalid options; the message names the option, the value and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Result of sizing a workload; the first verdict is the recommended one."""

    workload: str
    demand: Demand
    verdicts: tuple[Verdict, ...]
    needs: Needs
    decision: Decision
    comparisons: tuple[Comparison, ...]
    break_evens: tuple[str, ...]

    @property
    def chosen(self) -> Sized:
        """The recommended profile and its sizing."""
        sized = self.verdicts[0].sized
        assert sized is not None
        return sized

    @property
    def settings(self) -> dict[str, Any]:
        """Settings to use: scaling for a deployment file, or the configuration of serverless inference."""
        if self.decision.hosting == "serverless":
            busy = math.ceil(_SPARE * self.needs.in_flight)
            return {
                "MemorySizeInMB": 1024 * max(1, math.ceil(self.needs.memory_gib)),
                "MaxConcurrency": max(1, min(SERVERLESS_CONCURRENCY, busy)),
            }
        if self.decision.hosting in ("asynchronous", "batch"):
            return {"instance_count": self.chosen.instances}
        return {
            "scaling": {
                "min_capacity": self.demand.min_instances,
                "max_capacity": _SPARE * self.chosen.instances,
                "target_invocations_per_instance": round(self.chosen.target, 1),
            }
        }

    @property
    def conclusion(self) -> str:
        """The recommendation in one sentence."""
        demand, chosen, needs = self.demand, self.chosen, self.needs
        asked = f"{self.workload}, {demand.rate:g} requests/s, P99 within {demand.p99_ms:g} ms: {self.decision.hosting}"
        if self.decision.hosting == "serverless":
            cost = f"${needs.serverless_usd:.3g} per hour on average, instances ${needs.instances_usd:.3f}"
            return f"{asked} with {chosen.profile.variant}; {cost}"
        on = f"{chosen.instances} x {chosen.profile.instance_type} with {chosen.profile.variant}"
        cost = f"${chosen.usd_per_hour:.3f} per hour, ${chosen.usd_per_million:.2f} per million"
        return f"{asked}, {on}; predicted P99 {chosen.p99_ms:,.1f} ms, {cost}"

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "workload": self.workload,
            "demand": asdict(self.demand),
            "hosting": self.decision.hosting,
            "rules": [
                {"question": each.rule.question, "answer": each.answer, "facts": each.facts, "source": each.rule.source}
                for each in self.decision.asked
            ],
            "settings": self.settings,
            "conclusion": self.conclusion,
            "candidates": [_candidate(each) for each in self.verdicts],
            "comparison": [asdict(each) for each in self.comparisons],
            "break_evens": list(self.break_evens),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The workload to size and its requirements.

    rate: requests per second at the peak.
    p99_ms: P99 latency target, in milliseconds.
    facts: facts about the workload.
    region: region of the prices.
    safety: fraction of an instance's maximum rate to aim at, 0 to 1.
    idle_share: fraction of the time without requests, 0 to below 1.
    deadline_seconds: response deadline if no caller waits; None if one does.
    offline: whether all data exists beforehand.
    cold_start_seconds: assumed cold start of a serverless container.
    """

    rate: float
    p99_ms: float
    facts: Facts
    region: str = DEFAULT_REGION
    safety: float = SAFETY
    min_instances: int = 1
    routing: Routing = "random"
    idle_share: float = 0.0
    deadline_seconds: float | None = None
    offline: bool = False
    cold_start_seconds: float = 10.0


def size(
    workload: str,
    wanted: Wanted,
    *,
    measured: Path | None = None,
    unfit: Callable[[ServiceProfile], str | None] = lambda _: None,
) -> Sizing:
    """Return what a workload needs.

    measured: JSON file of profiles to use instead of the recorded ones.
    unfit: returns why an instance cannot serve the workload regardless of speed, or None if it can.

    Raises SizeError, ProfileError, PriceError or RecommendError.
    """
    if not 0 <= wanted.idle_share < 1:
        raise SizeError(f"idle_share is {wanted.idle_share}: give a fraction from 0 to below 1")
    demand = Demand(
        rate=wanted.rate,
        p99_ms=wanted.p99_ms,
        safety=wanted.safety,
        min_instances=wanted.min_instances,
        routing=wanted.routing,
    )
    profiles = of_workload(read_profiles(measured), workload)
    prices = {kind: price(wanted.region, kind) for kind in priced_types(wanted.region)}
    verdicts = recommend(profiles, prices, demand, unfit)
    chosen = verdicts[0].sized
    assert chosen is not None
    needs = _needs(wanted, chosen)
    priced = [(each, prices[each.instance_type].usd_per_hour) for each in profiles if each.instance_type in prices]
    return Sizing(
        workload=workload,
        demand=demand,
        verdicts=verdicts,
        needs=needs,
        decision=decide(needs),
        comparisons=compare(priced, utilization=1.0),
        break_evens=tuple(_break_evens(chosen, verdicts, demand, wanted.facts)),
    )


def _needs(wanted: Wanted, chosen: Sized) -> Needs:
    service, facts = chosen.profile.service, wanted.facts
    idle, busy = wanted.idle_share, 1 - wanted.idle_share
    idle_usd = wanted.min_instances * chosen.price.usd_per_hour * idle
    return Needs(
        payload_mib=facts.payload_mib,
        seconds=service.quantile(0.99) / 1000,
        memory_gib=facts.memory_gib,
        p99_ms=wanted.p99_ms,
        in_flight=wanted.rate * service.mean_ms / 1000,
        instances_usd=idle_usd + chosen.usd_per_hour * busy,
        serverless_usd=serverless_usd_per_hour(wanted.rate * busy, service.mean_ms / 1000, facts.memory_gib),
        models=facts.models,
        idle_share=idle,
        accelerator=facts.accelerator,
        offline=wanted.offline,
        deadline_seconds=wanted.deadline_seconds,
        cold_start_seconds=wanted.cold_start_seconds,
    )


def routing_of(name: str) -> Routing:
    """Return the routing with that name; raises SizeError."""
    if name == "random":
        return "random"
    if name == "least_outstanding":
        return "least_outstanding"
    raise SizeError(f"routing is {name!r}: choose random or least_outstanding")


def _break_evens(chosen: Sized, verdicts: Sequence[Verdict], demand: Demand, facts: Facts) -> list[str]:
    lines = []
    for verdict in verdicts[1:]:
        other = verdict.sized
        if other is None or other.profile.variant == chosen.profile.variant:
            continue
        if other.profile.instance_type != chosen.profile.instance_type or other.profile.place != chosen.profile.place:
            continue
        pays = pays_from(_fleet(chosen, demand), _fleet(other, demand))
        names = f"{chosen.profile.variant} over {other.profile.variant} on {chosen.profile.instance_type}"
        when = "never, by the rate alone" if pays is None else f"from {pays:,.1f} requests/s"
        lines.append(f"{names} pays off {when}, with a minimum of {demand.min_instances}")
    if facts.models > 1:
        fleet = _fleet(chosen, demand)
        apart = facts.models * fleet.usd(demand.rate / facts.models)
        fewest = models_from_which_sharing_pays(fleet, fleet, demand.rate)
        when = "never pays off" if fewest is None else f"pays off from {fewest} models"
        lines.append(
            f"{facts.models} models on one multi-model endpoint cost ${fleet.usd(demand.rate):.3f} per hour, on "
            f"separate endpoints ${apart:.3f}; sharing {when}"
        )
    return lines


def _fleet(sized: Sized, demand: Demand) -> Fleet:
    return Fleet(
        usd_per_hour=sized.price.usd_per_hour,
        max_rate=sized.profile.max_rate_per_instance,
        safety=demand.safety,
        min_instances=demand.min_instances,
    )


def _candidate(verdict: Verdict) -> dict[str, Any]:
    profile, sized = verdict.profile, verdict.sized
    candidate: dict[str, Any] = {
        "variant": profile.variant,
        "instance_type": profile.instance_type,
        "place": profile.place,
        "source": profile.source,
        "date": profile.date,
        "samples": profile.samples,
        "chosen": verdict.chosen,
        "reason": verdict.reason,
    }
    if sized is not None:
        names = ("instances", "p50_ms", "p99_ms", "target", "utilization", "usd_per_hour", "usd_per_million")
        candidate |= {name: getattr(sized, name) for name in names}
    return candidate
