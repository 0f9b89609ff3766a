"""Put a report together: candidates, decision, sizing and a simulated day for every workload."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from load_tests.deployed import DeployedWorkload
from load_tests.kinds import KINDS
from load_tests.kinds.base import Served, Summary
from load_tests.planning import Place
from load_tests.report.builds import described
from load_tests.report.decide import decide, unfit
from load_tests.report.measure import Measured, load, read_measured
from load_tests.report.model import Candidate, Demanded, Group, Report, ReportError, Scaling, SizedRow
from load_tests.simulated import Provisioning, simulated_endpoint
from sizing.prices import DEFAULT_REGION, Price, PriceError, price, usd_per_hour
from sizing.profiles import ServiceProfile
from sizing.recommend import Demand, RecommendError, Verdict, recommend
from sizing.simulation.aggregated import simulate_aggregated
from sizing.simulation.plots import plot
from sizing.simulation.traffic import diurnal
from stacks.settings import scaling as scaling_settings
from stacks.settings.hosting import ONLY_VARIANT

_DAY = 86_400
_PROVISIONING_SECONDS = 240.0
_FEW_SAMPLES = 1000
"""Responses below which a P99 has fewer than ten beyond it."""


def collect(
    workloads: Sequence[DeployedWorkload[Any]],
    targets: Mapping[str, Sequence[Served]],
    place: Place,
    *,
    folder: Path,
    demand: Demanded,
    commit: str | None,
) -> Report:
    """Return the report of what `measure` left in `folder` of these variants.

    targets: by workload. Raises ReportError; errors of the client library pass through.
    """
    groups: list[Group] = []
    builds = []
    for workload in workloads:
        kind, variants = KINDS[workload.settings.kind], targets[workload.name]
        summaries = kind.summaries(workload)
        builds += described(workload.name, kind, summaries)
        measured = read_measured(variants, folder)
        if not any(each.alone or each.busy for found in measured.values() for each in found):
            raise ReportError(f"no load test of {workload.name} is in {folder}: leave --no-measure out")
        for keys in kind.groups(workload.settings, list(measured)):
            groups.append(_group(workload, keys, measured, summaries, demand, place))
    return Report(
        deployment=workloads[0].deployment.environment,
        made_at=datetime.now(UTC),
        location="local" if place.local else "aws",
        machine=place.machine,
        commit=commit,
        builds=tuple(builds),
        groups=tuple(groups),
    )


def _group(
    workload: DeployedWorkload[Any],
    keys: Sequence[str],
    measured: Mapping[str, Sequence[Measured]],
    summaries: Mapping[str, Summary],
    demand: Demanded,
    place: Place,
) -> Group:
    kind = KINDS[workload.settings.kind]
    limit = demand.p99_ms or max(workload.settings.served[key].alarms.p99_model_latency_ms for key in keys)
    candidates = [_candidate(workload, key, each, summaries) for key in keys for each in measured[key]]
    decision = decide(candidates, limit)
    verdicts = _sized(workload, candidates, demand.rate, limit)
    chosen = next((each for each in verdicts if each.profile.variant == decision.chosen), None)
    return Group(
        workload=workload.name,
        title=kind.title(workload.name, workload.settings, keys),
        question=kind.question,
        candidates=tuple(candidates),
        chosen=decision.chosen,
        headline=decision.headline,
        judged=decision.judged,
        caveats=(*_caveats(candidates), *kind.caveats(workload.settings, keys, local=place.local)),
        rate=demand.rate,
        p99_ms=limit,
        sized=tuple(_row(each) for each in verdicts),
        scaling=None if chosen is None or chosen.sized is None else _day(chosen, demand.rate),
    )


def _candidate(
    workload: DeployedWorkload[Any], key: str, each: Measured, summaries: Mapping[str, Summary]
) -> Candidate:
    served = each.served
    described = KINDS[workload.settings.kind].describe(workload.settings, key, served.variant, summaries)
    return Candidate(
        name="/".join(filter(None, [served.endpoint, served.variant])),
        label=key if served.variant in (None, ONLY_VARIANT) else f"{key} {served.variant}",
        endpoint=served.endpoint,
        variant=served.variant or "",
        what=described.what,
        instance_type=served.instance_type,
        usd_per_hour=usd_per_hour(workload.deployment.region, served.instance_type),
        quality=described.quality,
        alone=load(each.alone),
        busy=load(each.busy),
    )


def _caveats(candidates: Sequence[Candidate]) -> list[str]:
    found = []
    loads = [each for one in candidates for each in (one.alone, one.busy) if each is not None]
    if any(each.location == "local" for each in loads):
        found.append(
            "Measured by the local account on the machine named, which is not one of the instance types priced."
        )
        if len({one.instance_type for one in candidates}) > 1:
            found.append(
                "Every instance type runs on this machine's processor: between instance types only price, memory and "
                "instruction set differ here."
            )
    if few := [one.name for one in candidates if one.busy is not None and one.busy.samples < _FEW_SAMPLES]:
        found.append(f"Fewer than {_FEW_SAMPLES} responses, too few for a reliable P99: {', '.join(few)}.")
    if saturated := sorted({reason for each in loads for reason in each.saturated}):
        found.append(f"The client itself was near its limit: {'; '.join(saturated)}.")
    return found


def _sized(
    workload: DeployedWorkload[Any], candidates: Sequence[Candidate], rate: float, p99_ms: float
) -> Sequence[Verdict]:
    profiles = [profile for each in candidates if (profile := _profile(workload.name, each)) is not None]
    prices: dict[str, Price] = {}
    for profile in profiles:
        try:
            prices[profile.instance_type] = price(workload.deployment.region or DEFAULT_REGION, profile.instance_type)
        except PriceError:
            continue
    if not profiles:
        return ()
    lost = {each.name: unfit(each, p99_ms) for each in candidates}
    try:
        return recommend(profiles, prices, Demand(rate=rate, p99_ms=p99_ms), lambda each: lost[each.variant])
    except RecommendError as error:
        return tuple(Verdict(profile, None, False, str(error)) for profile in profiles)


def _profile(workload: str, candidate: Candidate) -> ServiceProfile | None:
    """Return a candidate's profile for sizing, or None where it was not measured."""
    alone, busy = candidate.alone, candidate.busy
    if alone is None or busy is None or not busy.rate or not alone.quantiles_ms:
        return None
    rising = [pair for pair in alone.quantiles_ms if pair[1] > 0]
    kept = [rising[0]] + [later for earlier, later in pairwise(rising) if later[1] >= earlier[1]]
    try:
        return ServiceProfile(
            workload=workload,
            variant=candidate.name,
            instance_type=candidate.instance_type,
            quantiles_ms=tuple(kept),
            concurrency=max(1, busy.users),
            max_rate_per_instance=busy.rate,
            place=busy.location,
            machine=busy.machine,
            date=f"{busy.started_at:%Y-%m-%d}",
            samples=max(1, alone.samples),
            source="the load tests of this report",
        )
    except ValidationError:
        return None


def _row(verdict: Verdict) -> SizedRow:
    sized = verdict.sized
    return SizedRow(
        name=verdict.profile.variant,
        instances=sized.instances if sized else None,
        p99_ms=sized.p99_ms if sized else None,
        target_invocations_per_instance=sized.target if sized else None,
        utilization=sized.utilization if sized else None,
        usd_per_hour=sized.usd_per_hour if sized else None,
        reason=verdict.reason,
    )


def _day(verdict: Verdict, rate: float) -> Scaling:
    """Simulate a day between a tenth of the rate and the rate, scaled by the recommended target."""
    sized = verdict.sized
    assert sized is not None
    trace = diurnal(rate / 10, rate, _DAY)
    policy = scaling_settings.Scaling(
        min_capacity=1, max_capacity=max(2, 2 * sized.instances), target_invocations_per_instance=sized.target
    )
    endpoint = simulated_endpoint(
        verdict.profile,
        policy,
        first_rate=float(trace.rates[0]),
        provisioning=Provisioning(safety=0.5, seconds=_PROVISIONING_SECONDS),
    )
    result = simulate_aggregated(endpoint, trace, usd_per_hour=sized.price.usd_per_hour, window_seconds=300)
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "day.svg"
        plot(result, picture)
        svg = picture.read_text()
    return Scaling(
        traffic=f"a day between {rate / 10:g} and {rate:g} requests/s, target "
        f"{sized.target:.0f} invocations a minute and instance, {_PROVISIONING_SECONDS:g} s until an instance serves",
        p99_ms=result.p99_ms,
        error_share=result.error_share,
        instance_hours=result.instance_hours,
        usd_per_day=result.usd_per_day,
        usd_fixed=24 * sized.usd_per_hour,
        picture=svg[svg.index("<svg") :],
    )
