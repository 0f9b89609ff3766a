"""`python -m benchmarks.scaling_simulation`: compare the simulation with a real scale-out, and its two modes."""

import tempfile
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, say
from benchmarks.machine import Machine
from benchmarks.scaling_simulation import account_run, modes
from benchmarks.scaling_simulation.account_run import BOUNDS, POLICY, TIME_SCALE, Watched
from benchmarks.scaling_simulation.report import ScalingResult
from sizing.service_times import ServiceTimes
from sizing.simulation.endpoint import Endpoint, Tracking
from sizing.simulation.events import simulate_events
from sizing.simulation.result import Result as Simulated
from sizing.simulation.traffic import Trace

TRACES = (
    Trace("step", np.repeat([3.0, 40.0, 3.0], [6, 20, 34])),
    Trace("ramp", np.concatenate([np.linspace(3, 50, 25), np.full(5, 50.0), np.full(34, 3.0)])),
)
SEEDS = 25


def main(
    cache: CacheOption,
    seed: Annotated[int, typer.Option(help="of the requests that are sent")] = 7,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Compare the simulation with real scaling in its own local account, and its modes with each other.

    Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(httpx.HTTPError, BotoCoreError, ClientError):
        machine = Machine.read()
        with tempfile.TemporaryDirectory(prefix="scaling-simulation-") as name:
            say("starting a local account and an endpoint")
            with account_run.endpoint(cache, Path(name)):
                service = account_run.service_times()
                starting = account_run.starting_seconds()
                foreseen = [_foresee(trace, service, starting) for trace in TRACES]
                watched = [_watch(trace, seed) for trace in TRACES]
        result = ScalingResult(
            machine=machine,
            service=service,
            starting_seconds=starting,
            watched=tuple(zip(watched, foreseen, strict=True)),
            agreements=modes.agreements(say),
            speeds=modes.speeds(say),
        )
    conclude(result, result.record(results))


def _foresee(trace: Trace, service: ServiceTimes, starting_seconds: float) -> tuple[Simulated, ...]:
    return tuple(
        simulate_events(
            Endpoint(
                service=service,
                workers=1,
                instances=BOUNDS.minimum,
                bounds=BOUNDS,
                # The local account routes to the replica with the fewest requests.
                routing="least_outstanding",
                provisioning_seconds=starting_seconds,
                tracking=Tracking(POLICY),
                time_scale=TIME_SCALE,
                alarm_phase=seed / SEEDS,
            ),
            trace,
            seed=seed,
            window_seconds=1,
        )
        for seed in range(SEEDS)
    )


def _watch(trace: Trace, seed: int) -> Watched:
    say(f"{trace.name}: sending {trace.requests:,.0f} requests in {trace.seconds} s")
    return account_run.drive(trace, seed)


if __name__ == "__main__":
    typer.run(main)
