"""The simulation against closed forms, its two modes against one another, and how it scales."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizing.autoscaling import CONCURRENCY, Bounds, Step, StepScaling, TargetTracking
from sizing.queueing import Queue
from sizing.service_times import ServiceTimes
from sizing.simulation.aggregated import simulate_aggregated
from sizing.simulation.endpoint import Endpoint, Schedule, SimulationError, Tracking
from sizing.simulation.events import simulate_events
from sizing.simulation.observed import (
    Look,
    Milestones,
    ObservedError,
    instance_seconds,
    milestones_in,
    milestones_of,
    provisioning_seconds,
    read_moments,
    traffic_of,
)
from sizing.simulation.plots import plot
from sizing.simulation.result import Result
from sizing.simulation.traffic import (
    Trace,
    TrafficError,
    constant,
    diurnal,
    failover,
    flash_crowd,
    read_trace,
)

EXPONENTIAL = ServiceTimes.exponential(100)
STEADY = ServiceTimes(((0.5, 35.7), (0.9, 48.9)))
MODES = pytest.mark.parametrize("simulate", [simulate_events, simulate_aggregated])
Simulate = Callable[..., Result]


def endpoint(**members: Any) -> Endpoint:
    given = {"service": EXPONENTIAL, "workers": 1, "instances": 1, "bounds": Bounds(1, 1000), **members}
    return Endpoint(**given)


def tracking(target: float, **members: Any) -> Tracking:
    return Tracking(TargetTracking(target, **{"scale_out_cooldown": 60, **members}))


def formula(one: Endpoint, rate: float, percent: float) -> float:
    shared = one.instances if one.routing == "least_outstanding" else 1
    queue = Queue(
        servers=one.workers * shared,
        rate=rate * shared / one.instances,
        mean_service=one.mean_service,
        scv=one.service.scv,
    )
    return 1000 * queue.response_quantile(percent / 100, [ms / 1000 for ms in one.service.points])


@MODES
@pytest.mark.parametrize(
    ("members", "load"),
    [
        ({}, 0.5),
        ({}, 0.8),
        ({"workers": 4}, 0.8),
        ({"workers": 4}, 0.95),
        ({"service": ServiceTimes.constant(100)}, 0.8),
        ({"service": STEADY}, 0.8),
    ],
    ids=["M/M/1", "M/M/1 busy", "M/M/4", "M/M/4 busy", "M/D/1", "M/G/1"],
)
def test_steady_load_waits_as_the_formulas_say(simulate: Simulate, members: dict[str, Any], load: float) -> None:
    one = endpoint(instances=20, bounds=Bounds(20, 20), **members)
    rate = load * 20 * one.rate_per_instance
    found = simulate(one, constant(rate, 1200), seed=3)
    assert found.p50_ms == pytest.approx(formula(one, rate, 50), rel=0.07)
    assert found.p99_ms == pytest.approx(formula(one, rate, 99), rel=0.12)
    assert found.requests == pytest.approx(1200 * rate, rel=0.01)


@MODES
def test_least_outstanding_requests_wait_as_in_one_line(simulate: Simulate) -> None:
    one = endpoint(instances=10, bounds=Bounds(10, 10), routing="least_outstanding", service=STEADY)
    rate = 0.8 * 10 * one.rate_per_instance
    found = simulate(one, constant(rate, 600), seed=3)
    assert found.p50_ms == pytest.approx(formula(one, rate, 50), rel=0.05)
    assert found.p99_ms == pytest.approx(formula(one, rate, 99), rel=0.25)


def test_without_a_line_the_share_refused_is_erlang_b() -> None:
    workers, offered = 5, 4.0
    blocked = (offered**workers / math.factorial(workers)) / sum(
        offered**busy / math.factorial(busy) for busy in range(workers + 1)
    )
    found = simulate_events(endpoint(workers=workers, queue_limit=0), constant(offered / 0.1, 4000), seed=1)
    assert found.error_share == pytest.approx(blocked, rel=0.03)


@MODES
def test_overload_refuses_what_is_too_much_once_lines_are_full(simulate: Simulate) -> None:
    one = endpoint(instances=10, bounds=Bounds(10, 10), queue_limit=10)
    found = simulate(one, constant(150, 900), seed=1)
    assert found.error_share == pytest.approx(1 / 3, abs=0.01)
    assert found.p99_ms < 2500


@MODES
def test_overload_without_a_limit_times_out(simulate: Simulate) -> None:
    found = simulate(endpoint(instances=10, bounds=Bounds(10, 10)), constant(150, 900), seed=1)
    # The line is longer than a minute once half a minute's work too much a minute makes a minute of it.
    assert found.timed_out / found.requests == pytest.approx((900 - 120) / 900, abs=0.04)
    assert found.rejected == 0


@MODES
def test_the_same_seed_gives_the_same_result_and_another_does_not(simulate: Simulate) -> None:
    one, trace = endpoint(tracking=tracking(300), bounds=Bounds(1, 9)), flash_crowd(4, 30, 1800)
    first, again, other = (simulate(one, trace, seed=seed).summary() for seed in (1, 1, 2))
    assert first == again
    assert first != other


AGREEMENT = {
    "flash crowd": flash_crowd(50, 400, 7200),
    "failover": failover(50, 150, 7200),
    "day": diurnal(20, 100, 10_800, peak_hour=1.5),
}


@pytest.mark.parametrize("routing", ["random", "least_outstanding"])
@pytest.mark.parametrize("trace", AGREEMENT.values(), ids=AGREEMENT)
def test_both_modes_agree_on_a_scaling_endpoint(trace: Trace, routing: str) -> None:
    one = endpoint(service=STEADY, instances=4, bounds=Bounds(4, 40), routing=routing, tracking=tracking(800))
    events, aggregated = (simulate(one, trace, seed=1) for simulate in (simulate_events, simulate_aggregated))
    assert aggregated.p50_ms == pytest.approx(events.p50_ms, rel=0.05)
    assert aggregated.instance_hours == pytest.approx(events.instance_hours, rel=0.02)
    assert aggregated.error_share == pytest.approx(events.error_share, rel=0.1, abs=1e-4)
    if events.error_share < 0.001:
        assert aggregated.p99_ms == pytest.approx(events.p99_ms, rel=1 / 6 if routing == "random" else 1 / 4)


@pytest.mark.parametrize("trace", list(AGREEMENT.values())[:2], ids=list(AGREEMENT)[:2])
def test_both_modes_agree_on_the_concurrency_metric(trace: Trace) -> None:
    by_concurrency = Tracking(TargetTracking(1.0, scale_out_cooldown=60), CONCURRENCY)
    one = endpoint(service=STEADY, instances=4, bounds=Bounds(4, 40), tracking=by_concurrency)
    events, aggregated = (simulate(one, trace, seed=1) for simulate in (simulate_events, simulate_aggregated))
    assert aggregated.instance_hours == pytest.approx(events.instance_hours, rel=1 / 6)
    assert aggregated.error_share == pytest.approx(events.error_share, rel=0.1)


@MODES
def test_three_minutes_over_the_target_scale_out_and_fifteen_under_it_scale_in(simulate: Simulate) -> None:
    one = endpoint(
        workers=4, tracking=tracking(300, scale_in_cooldown=300), bounds=Bounds(1, 4), provisioning_seconds=100
    )
    trace = Trace("up and down", np.repeat([1.0, 12.0, 1.0], [600, 1200, 1800]))
    found = simulate(one, trace, seed=1)
    out, back = found.actions
    assert (out.seconds, out.before, out.after) == (780, 1, 3)
    assert (back.seconds, back.before, back.after) == (2700, 3, 1)
    assert "target tracking" in out.cause
    paid = (780 + (2700 - 780) * 3 + (3600 - 2700)) / 3600
    assert found.instance_hours == pytest.approx(paid)
    ready = found.series.ready[found.series.seconds == 840], found.series.ready[found.series.seconds == 960]
    assert [int(each[0]) for each in ready] == [1, 3]


@MODES
def test_concurrency_scales_out_within_half_a_minute(simulate: Simulate) -> None:
    by_concurrency = Tracking(TargetTracking(0.5, scale_out_cooldown=60), CONCURRENCY)
    one = endpoint(tracking=by_concurrency, bounds=Bounds(1, 8), provisioning_seconds=0)
    found = simulate(one, Trace("step", np.repeat([0.5, 40.0], [300, 300])), seed=1)
    assert found.actions[0].seconds == 330


@MODES
def test_while_instances_are_made_no_other_change_is_taken(simulate: Simulate) -> None:
    one = endpoint(tracking=tracking(300), bounds=Bounds(1, 50), provisioning_seconds=600)
    found = simulate(one, Trace("growing", np.linspace(1, 100, 1500)), seed=1)
    gaps = [after.seconds - before.seconds for before, after in zip(found.actions, found.actions[1:], strict=False)]
    assert min(gaps) > 600


@MODES
def test_steps_are_as_large_as_the_breach_and_schedules_move_the_bounds(simulate: Simulate) -> None:
    steps = StepScaling(threshold=600, periods=1, steps=(Step(0, 600, 1), Step(600, math.inf, 4)), cooldown=120)
    stepped = simulate(endpoint(workers=8, steps=steps, bounds=Bounds(1, 9)), constant(30, 90), seed=1)
    assert [(action.seconds, action.after) for action in stepped.actions] == [(60, 5)]
    at_one = Schedule("cron(0 1 * * ? *)", Bounds(3, 5))
    scheduled = simulate(
        endpoint(schedules=(at_one,), began=datetime(2026, 11, 21, 0, 30, tzinfo=UTC)), constant(5, 3600), seed=1
    )
    assert [(action.seconds, action.after) for action in scheduled.actions] == [(1800, 3)]


@MODES
def test_time_that_passes_faster_leaves_rates_their_meaning(simulate: Simulate) -> None:
    fast = endpoint(
        workers=9, tracking=tracking(300), bounds=Bounds(1, 4), provisioning_seconds=0, time_scale=60
    )  # fmt: skip
    found = simulate(fast, constant(60, 4), seed=1)
    assert [(action.seconds, action.after) for action in found.actions] == [(3, 4)]


@MODES
def test_an_overloaded_instance_counts_what_it_answers_unless_arrivals_are_counted(simulate: Simulate) -> None:
    trace = constant(40, 200)
    overloaded = {"tracking": tracking(300), "bounds": Bounds(1, 40), "timeout_seconds": 1000}
    on_answer, on_arrival = (
        simulate(endpoint(counted=counted, **overloaded), trace, seed=1).actions[0] for counted in ("answer", "arrival")
    )
    # It answers ten a second, which is twice the target, and gets four times as many.
    assert (on_answer.seconds, on_answer.after) in ((180, 2), (180, 3))
    assert (on_arrival.seconds, on_arrival.after) in ((180, 8), (180, 9))


def test_a_day_of_a_million_requests_a_second_runs_over_thousands_of_instances() -> None:
    quick = ServiceTimes(((0.5, 1.5), (0.99, 4.0)))
    one = endpoint(
        service=quick, workers=8, instances=500, bounds=Bounds(100, 5000), tracking=tracking(120_000)
    )  # fmt: skip
    found = simulate_aggregated(one, diurnal(200_000, 1_000_000, 86_400), usd_per_hour=0.408)
    assert found.requests == pytest.approx(86_400 * 600_000, rel=0.001)
    assert 490 <= found.peak_instances <= 530
    assert found.usd_per_day == pytest.approx(found.instance_hours * 0.408)
    assert found.error_share < 0.001


@pytest.mark.parametrize("routing", ["random", "least_outstanding"])
def test_more_instances_are_never_slower(routing: str) -> None:
    trace = constant(60, 600)
    p99 = [
        simulate_aggregated(
            endpoint(instances=count, bounds=Bounds(count, count), routing=routing), trace, seed=1
        ).p99_ms
        for count in (7, 8, 10, 14, 28)
    ]  # fmt: skip
    assert p99 == sorted(p99, reverse=True)


def test_a_latency_is_kept_within_a_percent() -> None:
    found = simulate_events(endpoint(service=ServiceTimes.constant(123)), constant(0.5, 2000), seed=1)
    assert found.p50_ms == pytest.approx(123, rel=0.01)


def test_the_summary_is_json_without_infinities_and_the_plot_a_png(tmp_path: Path) -> None:
    found = simulate_events(endpoint(), constant(0, 60))
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert (summary["requests"], summary["p99_ms"], summary["usd_per_million"]) == (0, None, None)
    plot(simulate_events(endpoint(), constant(5, 300)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"instances": 5, "bounds": Bounds(1, 4)}, "instances is 5, with bounds 1 to 4"),
        ({"queue_limit": -1}, "queue_limit is -1"),
        ({"provisioning_seconds": math.inf}, "provisioning_seconds is inf"),
        ({"time_scale": 0.5}, "time_scale is 0.5"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_its_field(members: dict[str, Any], part: str) -> None:
    with pytest.raises(SimulationError, match=part):
        endpoint(**members)


def test_alarms_faster_than_a_second_need_events() -> None:
    one = endpoint(tracking=Tracking(TargetTracking(1), CONCURRENCY), time_scale=60)
    with pytest.raises(SimulationError, match="give 10 or less, or simulate events"):
        simulate_aggregated(one, constant(1, 10))


def test_generators_reach_their_rates_when_they_say() -> None:
    day = diurnal(10, 90, 86_400)
    assert (round(day.rates.min()), round(day.peak), int(day.rates.argmax())) == (10, 90, 15 * 3600)
    crowd = flash_crowd(10, 90, 3600, at=600, rise=60)
    assert (crowd.rates[599], crowd.rates[660], crowd.rates[600 + 60 + 1800]) == pytest.approx(
        (10, 90, 10 + 80 / math.e)
    )
    moved = failover(10, 90, 3600, at=600, lasts=300)
    assert [moved.rates[at] for at in (599, 600, 899, 900)] == [10, 90, 90, 10]


def test_a_trace_is_read_as_rates_that_hold(tmp_path: Path) -> None:
    path = tmp_path / "launch.csv"
    path.write_text("seconds,rate\n0,5\n3,7.5\n5,0\n")
    trace = read_trace(path)
    assert (trace.name, trace.rates.tolist()) == ("launch", [5, 5, 5, 7.5, 7.5, 0])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("time,rate\n0,1\n", "line 1: the header is time, rate"),
        ("seconds,rate\n", "the first row must be for second 0"),
        ("seconds,rate\n5,1\n", "the first row must be for second 0"),
        ("seconds,rate\n0,1\n0,2\n", "second 0 follows 0"),
        ("seconds,rate\n0,fast\n", "line 2: the row is '0,fast'"),
        ("seconds,rate\n0,-1\n", "line 2: rate is -1"),
        ("seconds,rate\n0,1\n99999999,1\n", "beyond 31 days"),
    ],
)
def test_a_bad_trace_is_refused_by_its_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(TrafficError, match=part):
        read_trace(path)


HEADER = "seconds,loaded,desired,current,per_instance,answered,failed\n"


def test_what_was_watched_gives_traffic_milestones_and_the_time_to_start(tmp_path: Path) -> None:
    path = tmp_path / "moments.csv"
    path.write_text(
        HEADER
        + "0.0,True,1,1,0,0,0\n2.0,True,1,1,0,20,0\n2.5,True,3,1,0,25,0\n4.25,True,3,3,0,60,0\n8.0,False,1,1,0,60,2\n"
    )
    looks = read_moments(path)
    assert looks[2] == Look(2.5, 3, 1, 25)
    assert traffic_of(looks).rates[:3].tolist() == [10, 10, 15]
    assert traffic_of(looks).requests == pytest.approx(62)
    assert milestones_of(looks) == Milestones(2.25, 2.25, 6.125, 3)
    assert provisioning_seconds(looks) == 2.0
    assert instance_seconds(looks) == 2.5 + 5.5 * 3


def test_milestones_of_a_simulation_are_those_of_its_actions() -> None:
    one = endpoint(workers=9, tracking=tracking(300), bounds=Bounds(1, 4), provisioning_seconds=0, time_scale=60)
    found = simulate_events(one, Trace("up and down", np.repeat([2.0, 60.0, 2.0], [5, 10, 25])), seed=1)
    reached = milestones_in(found)
    assert (reached.most, reached.grew, reached.at_most) == (4, 8, 8)
    assert reached.back == pytest.approx(30, abs=1)
    assert milestones_in(simulate_events(endpoint(), constant(1, 5))) == Milestones(None, None, None, 1)


@pytest.mark.parametrize("text", ["seconds,rate\n0,1\n", HEADER, HEADER + "0,True,x,1,0,0,0\n"])
def test_what_is_no_watched_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "moments.csv"
    path.write_text(text)
    with pytest.raises(ObservedError, match=r"moments\.csv"):
        read_moments(path)
