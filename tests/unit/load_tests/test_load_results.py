"""Reports of workers join to one result, and gates decide on it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from load_tests.closed_loop import Request
from load_tests.collect import Collector, judge
from load_tests.gates import ErrorGate, Gate, GateError, LatencyGate, LostGate, RateGate, parse_gate, with_defaults
from load_tests.payloads.file import read_feed, write_feed
from load_tests.plan import HttpTarget, Plan, SageMakerTarget, share
from load_tests.profiles import PROFILES, profile
from load_tests.recorder import Recorder
from load_tests.result import LoadResult

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = ("/core_0/model_0", "/core_0/model_1")


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "workload": "neuron_encoder",
        "endpoint": "test-neuron-encoder",
        "location": "local",
        "machine": "a machine",
        "target": HttpTarget(urls=("http://127.0.0.1:1",), paths=PATHS),
        "feed": "",
        "level": 4,
        "warm_up": 2,
        "seconds": 10,
        "gates": with_defaults([], changes.get("mode", "closed")),
    }
    return Plan(**{**values, **changes})


@dataclass
class FakeWorker:
    """A recorder whose clock the test sets."""

    now: float = 0.0
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(2, 10, clock=lambda: self.now)
        self.recorder.start()

    def answered(self, began: float, latency: float, name: str = PATHS[0]) -> None:
        self.recorder.sent(began)
        self.now = began + latency
        self.recorder.answered(name, began)

    def failed(self, began: float, latency: float, kind: str = "HTTP 500", name: str = PATHS[0]) -> None:
        self.recorder.sent(began)
        self.now = began + latency
        self.recorder.failed(name, kind, began)


def collected(made: Plan, *workers: FakeWorker, final: bool = True, ended: float = 12.0) -> LoadResult:
    collector = Collector(made)
    for number, worker in enumerate(workers):
        collector.connected(f"worker {number}")
        collector.add(f"worker {number}", worker.recorder.take(), final=final)
    return collector.result(BEGAN, ended)


def ordinary(made: Plan | None = None, count: int = 100) -> LoadResult:
    worker = FakeWorker()
    for number in range(count):
        worker.answered(2 + number * 9 / count, 0.010, PATHS[number % 2])
    return collected(made or plan(), worker)


def test_what_begins_while_it_warms_up_is_not_measured_and_what_ends_late_is() -> None:
    worker = FakeWorker()
    worker.answered(1.9, 0.5)
    worker.answered(2.0, 0.5)
    worker.answered(11.9, 3.0)
    worker.answered(12.0, 0.5)
    result = collected(plan(), worker)
    assert result.total.answered == 2
    assert result.total.max_ms == pytest.approx(3000, rel=1e-3)
    # The series tells of all of it.
    assert sum(second.answered for second in result.series) == 4
    assert [second.measured for second in result.series] == [True, False, False]


def test_reports_of_several_workers_and_of_several_times_join() -> None:
    first, second = FakeWorker(), FakeWorker()
    collector = Collector(plan(workers=2))
    collector.connected("a")
    collector.connected("b")
    for number in range(3):
        first.answered(3 + number, 0.010)
        second.answered(3 + number, 0.030, PATHS[1])
        collector.add("a", first.recorder.take())
        collector.add("b", second.recorder.take(), final=number == 2)
    collector.add("a", first.recorder.take(), final=True)
    result = collector.result(BEGAN, 12)
    assert [(each.name, each.answered) for each in result.names] == [(PATHS[0], 3), (PATHS[1], 3)]
    assert result.total.answered_per_second == pytest.approx(0.6)
    assert (result.total.min_ms, result.total.max_ms) == pytest.approx((10, 30), rel=1e-3)
    assert result.workers_lost == 0


def test_failures_have_no_part_in_the_latencies() -> None:
    worker = FakeWorker()
    for number in range(50):
        worker.answered(3 + number / 10, 0.100)
        worker.failed(3 + number / 10, 0.001)
    result = collected(plan(), worker)
    p50 = result.total.percentile(50)
    assert p50 is not None
    assert p50.value_ms == pytest.approx(100, rel=1e-3)
    assert (result.total.failed, result.total.error_rate) == (50, 0.5)
    assert result.total.failures == {"HTTP 500": 50}
    assert result.failure_p50_ms == pytest.approx(1, rel=1e-2)
    assert not result.passed


def test_in_flight_is_the_mean_of_each_worker_and_the_sum_of_all() -> None:
    workers = FakeWorker(), FakeWorker()
    collector = Collector(plan(workers=2))
    for name, worker, counts in zip("ab", workers, ((2, 4), (1, 1)), strict=True):
        collector.connected(name)
        for count in counts:
            worker.now = 3.5
            worker.recorder.looked(count, 0.0)
            # A second may come in several reports.
            collector.add(name, worker.recorder.take())
    (second,) = collector.result(BEGAN, 12).series
    assert second.in_flight == 4


def test_a_worker_without_a_final_report_is_lost_and_fails_the_test() -> None:
    worker = FakeWorker()
    worker.answered(3, 0.01)
    worker.answered(3, 0.01, PATHS[1])
    result = collected(plan(), worker, final=False)
    assert (result.workers_lost, result.passed) == (1, False)
    assert "1 of 1 workers lost, at most 0" in [outcome.found for outcome in result.gates]


def test_a_worker_that_never_came_is_lost() -> None:
    assert ordinary(plan(workers=2)).workers_lost == 1


def test_a_place_that_fails_is_not_hidden_by_others_that_answer() -> None:
    worker = FakeWorker()
    for number in range(10_000):
        worker.answered(3, 0.01)
        if number < 5:
            worker.failed(3, 0.01, "ConnectionRefusedError", PATHS[1])
    result = collected(plan(), worker)
    assert result.total.error_rate < 0.001
    assert not result.passed
    assert "100.000% of /core_0/model_1 failed (5 ConnectionRefusedError)" in result.gates[0].found


def test_a_place_that_got_no_request_fails() -> None:
    worker = FakeWorker()
    worker.answered(3, 0.01)
    assert collected(plan(), worker).gates[0].found.startswith("/core_0/model_1 got no request")


def test_a_test_that_answered_nothing_does_not_pass_without_gates_either() -> None:
    assert not collected(plan(gates=()), FakeWorker()).passed


def test_a_test_that_ends_by_its_requests_is_as_long_as_they_took() -> None:
    worker = FakeWorker()
    for number in range(8):
        worker.answered(2 + number / 2, 0.5, PATHS[number % 2])
    result = collected(plan(requests=8, seconds=100), worker, ended=7.3)
    assert result.measured_seconds == pytest.approx(4)
    assert result.total.answered_per_second == pytest.approx(2)


def test_arrivals_that_were_kept_back_are_counted_as_saturation_and_miss_the_rate() -> None:
    worker = FakeWorker()
    worker.recorder.scheduled(100)
    for number in range(90):
        worker.answered(2 + number / 10, 0.01, PATHS[number % 2])
    for _ in range(10):
        worker.recorder.unsent(5)
    result = collected(plan(mode="open", level=10), worker)
    assert (result.reached.scheduled, result.reached.sent, result.reached.unsent) == (100, 90, 10)
    assert result.reached.share == 0.9
    assert result.saturation.saturated
    assert "10 arrivals were not sent" in result.saturation.reasons[0]
    assert [outcome.passed for outcome in result.gates] == [True, True, False]


@pytest.mark.parametrize(("use", "lag", "part"), [(0.95, 0.0, "95% busy"), (0.1, 0.050, "woke 50.0 ms late")])
def test_a_client_that_is_the_limit_says_so(use: float, lag: float, part: str) -> None:
    worker = FakeWorker()
    worker.answered(3, 0.020)
    for _ in range(5):
        worker.recorder.processor(use)
        worker.recorder.looked(1, lag)
    (reason,) = collected(plan(), worker).saturation.reasons
    assert part in reason


def test_lag_that_is_small_beside_the_latencies_does_not_matter() -> None:
    worker = FakeWorker()
    worker.answered(3, 2.0)
    worker.recorder.looked(1, 0.050)
    assert not collected(plan(), worker).saturation.saturated


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("p99<=200", LatencyGate(percent=99, limit_ms=200)),
        ("P99.9 <= 50ms", LatencyGate(percent=99.9, limit_ms=50)),
        ("errors<=0.5%", ErrorGate(limit=0.005)),
        ("lost<=1", LostGate(limit=1)),
        ("rate>=95%", RateGate(limit=0.95)),
    ],
)
def test_gates_are_read_from_the_command_line(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate


@pytest.mark.parametrize("text", ["p99", "p100<=5", "p99<=0", "errors<=5", "errors<=101%", "rate>=0%", "speed>=5"])
def test_a_gate_that_is_none_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(GateError, match=r"errors<=PERCENT%"):
        parse_gate(text)


def test_gates_that_are_not_given_have_defaults() -> None:
    assert [gate.kind for gate in with_defaults([], "closed")] == ["errors", "lost"]
    assert [gate.kind for gate in with_defaults([], "open")] == ["errors", "lost", "rate"]
    given = ErrorGate(limit=0.5)
    assert with_defaults([given], "closed") == (given, LostGate(limit=0))


def test_a_latency_gate_decides_by_its_percentile() -> None:
    result = ordinary()
    assert judge(LatencyGate(percent=99, limit_ms=11), result).passed
    assert not judge(LatencyGate(percent=99, limit_ms=9), result).passed
    assert not judge(LatencyGate(percent=99, limit_ms=1000), collected(plan(), FakeWorker())).passed


def test_a_result_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    result = ordinary()
    result.write(tmp_path / "made" / "result.json")
    assert LoadResult.read(tmp_path / "made" / "result.json") == result
    assert result.names[0].latencies().count == result.names[0].answered


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    ordinary().write(file)
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(ValidationError):
        LoadResult.read(file)


def test_users_are_spread_evenly_over_places_and_requests_over_workers() -> None:
    assert [share(10, part, 4) for part in range(4)] == [3, 3, 2, 2]
    urls = ("http://a:1", "http://b:2")
    places = plan(target=HttpTarget(urls=urls, paths=PATHS)).places
    assert [place.name for place in places] == [url + path for url in urls for path in PATHS]
    one = plan(target=SageMakerTarget(endpoint="e", variant="v", component="c")).places
    assert [place.name for place in one] == ["c"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"workers": 5}, "at most 4 users"),
        ({"mode": "open", "workers": 5, "max_in_flight": 4}, "max_in_flight is 4 for 5 workers"),
        ({"mode": "open", "requests": 100}, "requests applies to a closed loop only"),
        ({"pause": (2.0, 1.0)}, "give the shorter pause first"),
    ],
)
def test_a_plan_that_cannot_be_run_says_why(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        plan(**changes)


def test_requests_are_the_same_after_they_were_written(tmp_path: Path) -> None:
    requests = [
        Request(body=b"\x00\xff", content_type="application/x-npy", accept="image/png"),
        Request(body=b"1,2", content_type="text/csv", target_model="churn-xgb-AL.tar.gz"),
    ]
    write_feed(str(tmp_path / "feed.jsonl"), requests)
    assert read_feed(str(tmp_path / "feed.jsonl")) == requests
    write_feed(str(tmp_path / "none.jsonl"), [])
    with pytest.raises(ValueError, match="no request"):
        read_feed(str(tmp_path / "none.jsonl"))


def test_the_published_runs_have_their_numbers() -> None:
    churn, unet, bert = (PROFILES[name] for name in ("churn", "unet", "bert"))
    assert (churn.users, churn.spawn_rate, churn.warm_up + churn.seconds, churn.workers) == (300, 5, 900, 2)
    assert (unet.users, unet.workers, bert.requests) == (240, 60, 10_000)
    # All users are there before anything is measured.
    assert all((each.users or 1) / each.spawn_rate <= each.warm_up for each in PROFILES.values())
    with pytest.raises(ValueError, match="choose from quick, churn"):
        profile("slow")
