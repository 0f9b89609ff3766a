"""Compare the simulation's two modes, and measure their speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sizing.autoscaling import Bounds, TargetTracking
from sizing.service_times import ServiceTimes
from sizing.simulation.aggregated import simulate_aggregated
from sizing.simulation.endpoint import Endpoint, Routing, Tracking
from sizing.simulation.events import simulate_events
from sizing.simulation.result import Result
from sizing.simulation.traffic import Trace, constant, diurnal, failover, flash_crowd

EVENTS, DAY_RATE = 10_000_000, 1_000_000.0
_SERVICE = ServiceTimes(((0.5, 35.7), (0.9, 48.9)))
"""Service times of BERT in INT8, as published for c6i.2xlarge."""
_QUICK = ServiceTimes(((0.5, 1.5), (0.99, 4.0)))
_ROUTINGS: tuple[Routing, ...] = ("random", "least_outstanding")


@dataclass(frozen=True, slots=True)
class Agreement:
    """A trace simulated in both modes."""

    routing: Routing
    events: Result
    aggregated: Result


@dataclass(frozen=True, slots=True)
class Speed:
    """Duration of a simulation, with its requests and its maximum number of instances."""

    what: str
    requests: float
    instances: int
    seconds: float


def agreements(on_step: Callable[[str], object]) -> tuple[Agreement, ...]:
    """Simulate three traces with both routings on an endpoint that scales."""
    traces = (flash_crowd(50, 400, 14_400), failover(50, 150, 10_800), diurnal(20, 150, 86_400))
    results = []
    for trace in traces:
        for routing in _ROUTINGS:
            on_step(f"{trace.name}, {routing}: both modes")
            endpoint = _endpoint(routing)
            results.append(
                Agreement(
                    routing, simulate_events(endpoint, trace, seed=1), simulate_aggregated(endpoint, trace, seed=1)
                )
            )
    return tuple(results)


def speeds(on_step: Callable[[str], object]) -> tuple[Speed, ...]:
    """Measure ten million requests one by one, and a day at a million requests per second."""
    results = []
    for routing in _ROUTINGS:
        on_step(f"{EVENTS:,} requests, {routing}")
        endpoint = Endpoint(service=_SERVICE, workers=1, instances=32, bounds=Bounds(32, 32), routing=routing)
        rate = 0.7 * 32 * endpoint.rate_per_instance
        results.append(_timed(f"events, {routing}", simulate_events, endpoint, constant(rate, round(EVENTS / rate))))
    for routing in _ROUTINGS:
        on_step(f"a day at {DAY_RATE:,.0f} requests a second, {routing}")
        endpoint = Endpoint(
            service=_QUICK,
            workers=8,
            instances=500,
            bounds=Bounds(100, 5000),
            routing=routing,
            tracking=Tracking(TargetTracking(60_000, scale_out_cooldown=60)),
        )
        day = diurnal(DAY_RATE, DAY_RATE, 86_400)
        results.append(_timed(f"aggregated day, {routing}", simulate_aggregated, endpoint, day))
    return tuple(results)


def _endpoint(routing: Routing) -> Endpoint:
    return Endpoint(
        service=_SERVICE,
        workers=1,
        instances=4,
        bounds=Bounds(4, 40),
        routing=routing,
        tracking=Tracking(TargetTracking(800, scale_out_cooldown=60)),
    )


def _timed(what: str, simulate: Callable[[Endpoint, Trace], Result], endpoint: Endpoint, trace: Trace) -> Speed:
    begin = time.perf_counter()
    result = simulate(endpoint, trace)
    return Speed(what, result.requests, result.peak_instances, time.perf_counter() - begin)
