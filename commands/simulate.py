"""`inference simulate`: simulate an autoscaled endpoint under a day's traffic before deploying it."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commands.output import fail
from sizing.prices import PriceError, price
from sizing.profiles import ProfileError, ServiceProfile, of_workload, read_profiles
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.scaling import Scaling

if TYPE_CHECKING:
    from sizing.simulation.endpoint import Endpoint
    from sizing.simulation.result import Result
    from sizing.simulation.traffic import Trace

_MOST_EVENTS = 5e6
"""Requests up to which mode `auto` simulates each one."""
_SPARE = 1.5


class ChoiceError(ValueError):
    """Options that do not identify one choice; the message lists the choices."""


# Groups of options in the help.
_PROFILE, _TRAFFIC, _SCALING = "What serves", "Traffic", "Scaling: from a deployment, or by these options"
_ENDPOINT, _RUN = "Endpoint", "Run"


def simulate(  # noqa: PLR0913 - options of the command
    workload: Annotated[str, typer.Argument(help="workload whose profiles are simulated")],
    variant: Annotated[
        str | None, typer.Option(rich_help_panel=_PROFILE, help="variant of the profile, if several exist")
    ] = None,
    instance_type: Annotated[
        str | None, typer.Option(rich_help_panel=_PROFILE, help="instance type of the profile, if several exist")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(rich_help_panel=_PROFILE, help="JSON file of profiles instead of the recorded ones")
    ] = None,
    traffic: Annotated[
        str,
        typer.Option(
            rich_help_panel=_TRAFFIC,
            help="constant, diurnal, flash_crowd, failover, or a CSV file with columns seconds,rate",
        ),
    ] = "diurnal",
    low: Annotated[
        float,
        typer.Option(rich_help_panel=_TRAFFIC, min=0, help="lowest rate of generated traffic, in requests per second"),
    ] = 10.0,
    peak: Annotated[
        float,
        typer.Option(rich_help_panel=_TRAFFIC, min=0, help="highest rate of generated traffic, in requests per second"),
    ] = 100.0,
    hours: Annotated[
        float, typer.Option(rich_help_panel=_TRAFFIC, min=0.01, help="length of generated traffic, in hours")
    ] = 24.0,
    deployment: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SCALING, help="take scaling from this deployment: a name in deployments/, or a path"
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(rich_help_panel=_SCALING, help="with --deployment, the endpoint's key")
    ] = None,
    minimum: Annotated[int, typer.Option(rich_help_panel=_SCALING, min=1, help="minimum instances")] = 1,
    maximum: Annotated[
        int | None,
        typer.Option(rich_help_panel=_SCALING, min=1, help="maximum instances; default: enough for the peak"),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            rich_help_panel=_SCALING, help="scaling metric of each instance: invocations (per minute) or concurrency"
        ),
    ] = "invocations",
    target: Annotated[
        float | None,
        typer.Option(rich_help_panel=_SCALING, help="target value of the metric; default: maximum rate x safety x 60"),
    ] = None,
    safety: Annotated[
        float, typer.Option(rich_help_panel=_SCALING, min=0.01, max=1, help="fraction of the maximum rate to aim for")
    ] = 0.5,
    scale_out_cooldown: Annotated[
        float, typer.Option(rich_help_panel=_SCALING, min=0, help="cooldown after a scale-out, in seconds")
    ] = 60.0,
    scale_in_cooldown: Annotated[
        float, typer.Option(rich_help_panel=_SCALING, min=0, help="cooldown after a scale-in, in seconds")
    ] = 300.0,
    provisioning_seconds: Annotated[
        float, typer.Option(rich_help_panel=_ENDPOINT, min=0, help="seconds until a new instance takes requests")
    ] = 240.0,
    routing: Annotated[
        str, typer.Option(rich_help_panel=_ENDPOINT, help="random, as SageMaker does by default, or least_outstanding")
    ] = "random",
    queue_limit: Annotated[
        int | None,
        typer.Option(rich_help_panel=_ENDPOINT, min=0, help="queued requests before an instance rejects more"),
    ] = None,
    timeout_seconds: Annotated[
        float, typer.Option(rich_help_panel=_ENDPOINT, min=0, help="seconds after which a request counts as failed")
    ] = 60.0,
    mode: Annotated[
        str, typer.Option(rich_help_panel=_RUN, help="events, aggregated, or auto: events up to 5 million requests")
    ] = "auto",
    seed: Annotated[int, typer.Option(rich_help_panel=_RUN, help="the same seed gives the same result")] = 0,
    region: Annotated[str, typer.Option(rich_help_panel=_PROFILE, help="region of the price")] = "us-east-1",
    output: Annotated[Path, typer.Option(rich_help_panel=_RUN, help="folder of the plot and the figures")] = Path(
        "build/simulate"
    ),
) -> None:
    """Simulate target tracking, steps and schedules on a traffic trace: latency, errors, instances, cost.

    Scaling is decided by the same code as in the local account. Writes simulation.json and simulation.png.
    """
    try:
        from load_tests.simulated import Provisioning, simulated_endpoint
        from sizing.simulation.endpoint import SimulationError
        from sizing.simulation.plots import plot
        from sizing.simulation.traffic import TrafficError
    except ImportError as error:
        fail(f"{error.name} is missing: install the extra `sizing`")
    try:
        profile = choose_profile(of_workload(read_profiles(measured), workload),
                                 variant, instance_type)  # fmt: skip
        trace = _traffic(traffic, low, peak, round(hours * 3600))
        scaling = _deployed(deployment, workload, endpoint) if deployment else None
        if scaling is None:
            enough = math.ceil(_SPARE * trace.peak / (profile.max_rate_per_instance * safety))
            tracked = Tracked(
                minimum=minimum,
                maximum=maximum or max(minimum, enough),
                metric=metric,
                target=target,
                scale_out_cooldown=scale_out_cooldown,
                scale_in_cooldown=scale_in_cooldown,
            )
            scaling = tracked.scaling(profile, safety)
        provisioning = Provisioning(
            safety=safety,
            seconds=provisioning_seconds,
            routing=_routing(routing),
            queue_limit=queue_limit,
            timeout_seconds=timeout_seconds,
        )
        simulated = simulated_endpoint(profile, scaling, first_rate=float(trace.rates[0]), provisioning=provisioning)
        usd = price(region, profile.instance_type).usd_per_hour
        result = _run(simulated, trace, mode, usd, seed)
    except (ProfileError, PriceError, TrafficError, SimulationError, DeploymentError, ChoiceError) as error:
        fail(str(error))
    output.mkdir(parents=True, exist_ok=True)
    summary = {"profile": profile.model_dump(), "scaling": scaling.model_dump(), "seed": seed, **result.summary()}
    (output / "simulation.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(result, output / "simulation.png")
    _print(result, profile)
    print(f"the figures and the plot are in {output}", file=sys.stderr)


def choose_profile(
    profiles: tuple[ServiceProfile, ...], variant: str | None, instance_type: str | None
) -> ServiceProfile:
    """Return the only profile with this variant and instance type, where None matches any; raises ChoiceError."""
    found = [
        each
        for each in profiles
        if variant in (None, each.variant) and instance_type in (None, each.instance_type)
    ]  # fmt: skip
    if len(found) != 1:
        known = "; ".join(f"{each.variant!r} on {each.instance_type}" for each in found or profiles)
        raise ChoiceError(f"{len(found)} profiles match: choose one by --variant and --instance-type from {known}")
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Target tracking as the options describe it.

    metric: `invocations` per minute, or `concurrency`, of each instance. target: target value of the metric; None for
    the maximum rate times the safety. Cooldowns are in seconds.
    """

    minimum: int
    maximum: int
    metric: str
    target: float | None
    scale_out_cooldown: float
    scale_in_cooldown: float

    def scaling(self, profile: ServiceProfile, safety: float) -> Scaling:
        """Return the settings of a deployment for it; raise ChoiceError."""
        if self.minimum > self.maximum:
            raise ChoiceError(f"minimum is {self.minimum} and maximum {self.maximum}: swap them")
        if self.metric not in ("invocations", "concurrency"):
            raise ChoiceError(f"metric is {self.metric!r}: choose invocations or concurrency")
        counts = self.metric == "invocations"
        default = profile.max_rate_per_instance * safety * 60 if counts else profile.servers * safety
        wanted = self.target or default
        return Scaling(
            min_capacity=self.minimum,
            max_capacity=self.maximum,
            target_invocations_per_instance=wanted if counts else None,
            target_concurrent_requests_per_model=None if counts else wanted,
            scale_out_cooldown_seconds=round(self.scale_out_cooldown),
            scale_in_cooldown_seconds=round(self.scale_in_cooldown),
        )


def _deployed(name: str, workload: str, key: str | None) -> Scaling:
    settings = Deployment.named(name).workloads.get(workload)
    if settings is None:
        raise ChoiceError(f"deployment {name} has no {workload}: choose another with --deployment")
    scaled = {
        each: endpoint.scaling
        for each, endpoint in settings.sagemaker_endpoints.items()
        if endpoint.scaling is not None
    }
    if key is None and len(scaled) == 1:
        return next(iter(scaled.values()))
    if key is None or key not in scaled:
        raise ChoiceError(f"endpoint is {key!r}: choose one with scaling by --endpoint: {', '.join(scaled) or 'none'}")
    return scaled[key]


def _traffic(kind: str, low: float, peak: float, seconds: int) -> "Trace":
    from sizing.simulation.traffic import GENERATORS, TrafficError, read_trace

    if kind in GENERATORS:
        if low > peak:
            raise TrafficError(f"low is {low:g} and peak {peak:g}: swap them")
        return GENERATORS[kind](low, peak, seconds)
    if not Path(kind).is_file():
        raise TrafficError(f"traffic is {kind!r}: give {', '.join(GENERATORS)}, or an existing CSV file")
    return read_trace(Path(kind))


def _routing(name: str) -> Literal["random", "least_outstanding"]:
    if name == "random":
        return "random"
    if name == "least_outstanding":
        return "least_outstanding"
    raise ChoiceError(f"routing is {name!r}: choose random or least_outstanding")


def _run(endpoint: "Endpoint", trace: "Trace", mode: str, usd_per_hour: float, seed: int) -> "Result":
    from sizing.simulation.aggregated import simulate_aggregated
    from sizing.simulation.events import simulate_events

    modes = {"events": simulate_events, "aggregated": simulate_aggregated}
    if mode not in ("auto", *modes):
        raise ChoiceError(f"mode is {mode!r}: choose auto, events or aggregated")
    chosen = mode if mode != "auto" else "events" if trace.requests <= _MOST_EVENTS else "aggregated"
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"simulating {trace.requests:,.0f} requests", total=trace.seconds)
        return modes[chosen](
            endpoint,
            trace,
            usd_per_hour=usd_per_hour,
            seed=seed,
            window_seconds=max(1.0, min(60.0, trace.seconds / 120)),
            on_second=lambda second: progress.update(task, completed=second),
        )


def _print(result: "Result", profile: ServiceProfile) -> None:
    table = Table(title=f"{profile.name}, {result.traffic}, by {result.mode}; service times of {profile.date}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        ("requests", f"{result.requests:,.0f}"),
        ("P50, P90, P99", f"{result.p50_ms:,.1f}, {result.p90_ms:,.1f}, {result.p99_ms:,.1f} ms"),
        ("rejected", f"{result.rejected:,.0f}"),
        ("timed out", f"{result.timed_out:,.0f}"),
        ("errors", f"{result.error_share:.3%}"),
        ("most instances", f"{result.peak_instances:,}"),
        ("changes of capacity", f"{len(result.actions):,}"),
        ("instance-hours", f"{result.instance_hours:,.1f}"),
        ("$ per day", f"{result.usd_per_day:,.2f}"),
        ("$ per million responses", f"{result.usd_per_million:,.2f}"),
    ):
        table.add_row(name, value)
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)
