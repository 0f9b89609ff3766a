"""Puts a report together: candidates, decision, sizing and a simulated day for every workload."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from local_aws.load_targets import Served
from local_aws.report.builds import Built, described, qualities, read_builds
from local_aws.report.decide import decide, unfit
from local_aws.report.measure import Measured, load, read_measured
from local_aws.report.model import Candidate, Group, Quality, Report, ReportError, Scaling, SizedRow
from local_aws.simulate import endpoint_of
from local_aws.watch_scaling import image_form
from sizing.prices import Price, PriceError, price
from sizing.profiles import ServiceProfile
from sizing.recommend import Demand, RecommendError, Verdict, recommend
from sizing.simulation.aggregated import simulate_aggregated
from sizing.simulation.plots import plot
from sizing.simulation.traffic import diurnal
from stacks import scaling_settings
from stacks.neuron_settings import NeuronEndpoint
from stacks.settings import ONLY_VARIANT, Deployment, Encoder, MultiModelEndpoint, SavedModel, UnetEndpoint
from stacks.shown import PRICED_REGION, usd_per_hour

_DAY = 86_400
_PROVISIONING_SECONDS = 240.0
_FEW_SAMPLES = 1000
"""Answers below which a P99 has fewer than ten beyond it."""


def collect(
    settings: Deployment,
    targets: Mapping[str, Sequence[Served]],
    *,
    local: bool,
    folder: Path,
    machine: str,
    commit: str | None,
    rate: float,
    p99_ms: float | None,
) -> Report:
    """The report of what `measure` left in `folder` of these variants, by workload.

    rate: requests a second at the peak that each workload is sized for. p99_ms: that its answers must keep; None takes
    the threshold of each endpoint's alarm. Raises ReportError; errors of the client library pass through.
    """
    groups: list[Group] = []
    builds = []
    for workload, variants in targets.items():
        built = read_builds(settings, workload)
        builds += described(built)
        measured = read_measured(variants, folder)
        if not any(each.alone or each.busy for found in measured.values() for each in found):
            raise ReportError(f"no load test of {workload} is in {folder}: leave --no-measure out")
        for keys in _grouped(settings, workload, list(measured)):
            groups.append(_group(settings, workload, keys, measured, built, rate, p99_ms))
    return Report(
        deployment=settings.environment,
        made_at=datetime.now(UTC),
        location="local" if local else "aws",
        machine=machine,
        commit=commit,
        builds=tuple(builds),
        groups=tuple(groups),
    )


def _grouped(settings: Deployment, workload: str, keys: Sequence[str]) -> list[Sequence[str]]:
    """Endpoints that answer the same requests stand side by side: of encoder, those of one model."""
    found = settings.workloads.enabled[workload]
    if not isinstance(found, Encoder):
        return [keys]
    models = dict.fromkeys(found.endpoints[key].model for key in keys)
    return [[key for key in keys if found.endpoints[key].model == model] for model in models]


def _group(
    settings: Deployment,
    workload: str,
    keys: Sequence[str],
    measured: Mapping[str, Sequence[Measured]],
    built: Built,
    rate: float,
    p99_ms: float | None,
) -> Group:
    endpoints = settings.workloads.enabled[workload].endpoints
    limit = p99_ms or max(endpoints[key].alarms.p99_model_latency_ms for key in keys)
    candidates = [_candidate(settings, workload, key, each, built) for key in keys for each in measured[key]]
    decision = decide(candidates, limit)
    verdicts = _sized(settings, workload, candidates, rate, limit)
    chosen = next((each for each in verdicts if each.profile.variant == decision.chosen), None)
    return Group(
        workload=workload,
        title=_title(settings, workload, keys),
        question=_QUESTIONS[workload],
        candidates=tuple(candidates),
        chosen=decision.chosen,
        headline=decision.headline,
        judged=decision.judged,
        caveats=tuple(_caveats(settings, workload, keys, candidates)),
        rate=rate,
        p99_ms=limit,
        sized=tuple(_row(each) for each in verdicts),
        scaling=None if chosen is None or chosen.sized is None else _day(chosen, rate),
    )


def _title(settings: Deployment, workload: str, keys: Sequence[str]) -> str:
    found = settings.workloads.enabled[workload]
    return f"{workload}, {found.endpoints[keys[0]].model}" if isinstance(found, Encoder) else workload


_QUESTIONS = {
    "encoder": "Which precision, on which instance?",
    "saved_model": "Which server?",
    "tabular": "Which instance holds the models?",
    "neuron_encoder": "What do packed NeuronCores give?",
}


def _candidate(settings: Deployment, workload: str, key: str, each: Measured, built: Built) -> Candidate:
    served = each.served
    what, quality = _described(settings, workload, key, served.variant, built)
    return Candidate(
        name="/".join(filter(None, [served.endpoint, served.variant])),
        label=key if served.variant in (None, ONLY_VARIANT) else f"{key} {served.variant}",
        endpoint=served.endpoint,
        variant=served.variant or "",
        what=what,
        instance_type=served.instance_type,
        usd_per_hour=usd_per_hour(settings, served.instance_type),
        quality=quality,
        alone=load(each.alone),
        busy=load(each.busy),
    )


def _described(
    settings: Deployment, workload: str, key: str, variant: str | None, built: Built
) -> tuple[str, Quality | None]:
    """What serves, in words, and the score of what is served."""
    found = settings.workloads.enabled[workload]
    endpoint = found.endpoints[key]
    if isinstance(found, Encoder):
        precision = found.endpoints[key].variants[variant or ""].precision
        model = found.endpoints[key].model
        engine = found.models[model].engine
        return f"{engine} {precision.upper()}", qualities(built, model).get(precision)
    if isinstance(endpoint, UnetEndpoint):
        names = {"openvino": f"OpenVINO {(endpoint.precision or '').upper()}", "neo": "Neo"}
        what = names.get(endpoint.server, "TensorFlow Serving")
        return what, qualities(built, "").get(endpoint.artifact)
    if isinstance(endpoint, MultiModelEndpoint):
        return "all models on one endpoint", qualities(built, "")[""]
    assert isinstance(endpoint, NeuronEndpoint)
    cores = "NeuronCores" if endpoint.virtual_cores is None else f"{endpoint.virtual_cores} virtual NeuronCores"
    return f"{cores}, {endpoint.copies_per_core} copies each", qualities(built, endpoint.model)[""]


def _caveats(settings: Deployment, workload: str, keys: Sequence[str], candidates: Sequence[Candidate]) -> list[str]:
    found = []
    loads = [each for one in candidates for each in (one.alone, one.busy) if each is not None]
    if any(each.location == "local" for each in loads):
        found.append("Measured by the local account on the machine named, which is none of the instances priced.")
        if len({one.instance_type for one in candidates}) > 1:
            found.append(
                "Every instance type runs on this machine's processor: between instance types only price, memory and "
                "instruction set differ here."
            )
    if few := [one.name for one in candidates if one.busy is not None and one.busy.samples < _FEW_SAMPLES]:
        found.append(f"Fewer than {_FEW_SAMPLES} answers, so that the P99 is a guess: {', '.join(few)}.")
    if saturated := sorted({reason for each in loads for reason in each.saturated}):
        found.append(f"The client itself was near its limit: {'; '.join(saturated)}.")
    endpoints = settings.workloads.enabled[workload].endpoints
    if any(each.location == "local" for each in loads) and any(
        isinstance(endpoints[key], UnetEndpoint) and getattr(endpoints[key], "server", "") != "openvino" for key in keys
    ):
        found.append("TensorFlow Serving and Neo are stand-ins of this project here.")
    unet = settings.workloads.enabled[workload]
    forms = {key: image_form(unet, key) for key in keys} if isinstance(unet, SavedModel) else {}
    if len(set(forms.values())) > 1:
        sent = ", ".join(f"{form} to {key}" for key, form in forms.items())
        found.append(
            f"Each endpoint is sent images in the form that it takes fastest ({sent}): part of the difference."
        )
    virtual = [key for key in keys if getattr(endpoints[key], "virtual_cores", None) is not None]
    if virtual:
        found.append(f"The NeuronCores of {', '.join(virtual)} are pretended on processors: no figure of Inferentia.")
    return found


def _sized(
    settings: Deployment, workload: str, candidates: Sequence[Candidate], rate: float, p99_ms: float
) -> Sequence[Verdict]:
    profiles = [profile for each in candidates if (profile := _profile(workload, each)) is not None]
    prices: dict[str, Price] = {}
    for profile in profiles:
        try:
            prices[profile.instance_type] = price(settings.region or PRICED_REGION, profile.instance_type)
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
    """What sizing takes of a candidate; None where it was not measured."""
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
        utilisation=sized.utilisation if sized else None,
        usd_per_hour=sized.usd_per_hour if sized else None,
        reason=verdict.reason,
    )


def _day(verdict: Verdict, rate: float) -> Scaling:
    """A day from a tenth of the rate to the rate, scaled by the recommended target."""
    sized = verdict.sized
    assert sized is not None
    trace = diurnal(rate / 10, rate, _DAY)
    policy = scaling_settings.Scaling(
        min_capacity=1, max_capacity=max(2, 2 * sized.instances), target_invocations_per_instance=sized.target
    )
    endpoint = endpoint_of(
        verdict.profile,
        policy,
        first_rate=float(trace.rates[0]),
        safety=0.5,
        provisioning_seconds=_PROVISIONING_SECONDS,
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
