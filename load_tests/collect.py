"""Combine the workers' reports into a result: the part of the master that does not need Locust."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from load_tests.gates import ErrorGate, Gate, LatencyGate, LostGate
from load_tests.histogram import SERIES_DIGITS, Latencies
from load_tests.percentiles import percentile_rank, percentiles
from load_tests.plan import Plan
from load_tests.result import (
    GateOutcome,
    LoadResult,
    NameResult,
    Reached,
    Saturation,
    Second,
    Worker,
)

Report = Mapping[str, Any]
"""The return value of Recorder.take."""
_BUSY = 0.9
_LAG_MS, _LAG_SHARE = 10.0, 0.1


@dataclass(slots=True)
class _Name:
    latencies: Latencies = field(default_factory=Latencies)
    failures: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(slots=True)
class _Second:
    answered: int = 0
    failed: int = 0
    unsent: int = 0
    in_flight: dict[str, tuple[int, int]] = field(default_factory=dict)
    latencies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Worker:
    final: bool = False
    cpu: list[float] = field(default_factory=list)


class Collector:
    """Accumulates reports, in any order, and creates the result."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._names: defaultdict[str, _Name] = defaultdict(_Name)
        for place in plan.places:
            self._names[place.name] = _Name()
        self._seconds: defaultdict[int, _Second] = defaultdict(_Second)
        self._workers: dict[str, _Worker] = {}
        self._failed, self._lag = Latencies(), Latencies()
        self._sent = self._unsent = self._scheduled = self._most_users = 0
        self._last = 0.0

    def connected(self, worker: str) -> None:
        """Add a worker that has connected."""
        self._workers[worker] = _Worker()

    def users(self, count: int) -> None:
        """Record the number of users running now."""
        self._most_users = max(self._most_users, count)

    def add(self, worker: str, report: Report, *, final: bool = False) -> None:
        """Add a worker's report; a final report shows that the worker was not lost."""
        self._workers[worker].final |= final
        self._workers[worker].cpu += report["cpu"]
        for name, part in report["names"].items():
            self._names[name].latencies.add(part["latencies"])
            for kind, count in part["failures"].items():
                self._names[name].failures[kind] += count
        for number, part in report["seconds"].items():
            second = self._seconds[int(number)]
            second.answered += part["answered"]
            second.failed += part["failed"]
            second.unsent += part["unsent"]
            in_flight, looks = second.in_flight.get(worker, (0, 0))
            second.in_flight[worker] = (in_flight + part["in_flight"], looks + part["looks"])
            if part["latencies"] is not None:
                second.latencies.append(part["latencies"])
        self._failed.add(report["failed_latencies"])
        self._lag.add(report["lag"])
        self._sent += report["sent"]
        self._unsent += report["unsent"]
        self._scheduled += report["scheduled"]
        self._last = max(self._last, report["last"])

    @property
    def done(self) -> int:
        """Number of measured requests that ended."""
        return sum(each.latencies.count + sum(each.failures.values()) for each in self._names.values())

    @property
    def unfinished(self) -> set[str]:
        """Workers that have not sent their final report."""
        return {name for name, worker in self._workers.items() if not worker.final}

    def last_second(self, *, after: int, before: int) -> Second | None:
        """Return the latest reported second between these two, both exclusive; None if there is none."""
        numbers = [number for number in self._seconds if after < number < before]
        return self._second(max(numbers)) if numbers else None

    def result(self, started_at: datetime, ended: float) -> LoadResult:
        """Return the result of a test whose users were asked to stop at second `ended`."""
        plan = self._plan
        until = min(ended, plan.warm_up + plan.seconds)
        if plan.requests is not None and self.done >= plan.requests:
            until = self._last
        seconds = max(until - plan.warm_up, 0.0)
        names = tuple(self._name(name, each, seconds) for name, each in sorted(self._names.items()))
        total = self._total(seconds)
        reached = self._reached(seconds)
        result = LoadResult(
            workload=plan.workload,
            endpoint=plan.endpoint,
            variant=plan.variant,
            instance_type=plan.instance_type,
            location=plan.location,
            machine=plan.machine,
            started_at=started_at,
            client=plan.client,
            mode=plan.mode,
            shape=plan.shape,
            level=plan.level,
            warm_up_seconds=plan.warm_up,
            measured_seconds=seconds,
            pause=plan.pause,
            seed=plan.seed,
            reached=reached,
            total=total,
            names=names,
            failure_p50_ms=_percentile(self._failed, 50),
            series=tuple(self._second(number) for number in sorted(self._seconds)),
            workers_wanted=plan.workers,
            workers=tuple(
                Worker(
                    name=f"worker {number}",
                    lost=not worker.final,
                    cpu_mean=sum(worker.cpu) / len(worker.cpu) if worker.cpu else 0.0,
                    cpu_max=max(worker.cpu, default=0.0),
                )
                for number, worker in enumerate(self._workers.values())
            ),
            saturation=self._saturation(total),
            gates=(),
            passed=False,
        )
        outcomes = tuple(judge(gate, result) for gate in plan.gates)
        passed = all(outcome.passed for outcome in outcomes) and total.answered > 0
        return result.model_copy(update={"gates": outcomes, "passed": passed})

    def _name(self, name: str, each: _Name, seconds: float) -> NameResult:
        answered, failed = each.latencies.count, sum(each.failures.values())
        return NameResult(
            name=name,
            answered=answered,
            failed=failed,
            answered_per_second=answered / seconds if seconds else 0.0,
            error_rate=failed / (answered + failed) if answered + failed else 0.0,
            failures=dict(sorted(each.failures.items())),
            mean_ms=each.latencies.mean_ms,
            min_ms=each.latencies.min_ms,
            max_ms=each.latencies.max_ms,
            percentiles=percentiles(each.latencies),
            histogram=each.latencies.encode(),
        )

    def _total(self, seconds: float) -> NameResult:
        together = _Name()
        for each in self._names.values():
            together.latencies.merge(each.latencies)
            for kind, count in each.failures.items():
                together.failures[kind] += count
        return self._name("all", together, seconds)

    def _reached(self, seconds: float) -> Reached:
        plan = self._plan
        closed = plan.mode == "closed"
        return Reached(
            users_wanted=round(plan.course.highest) if closed else None,
            users_reached=self._most_users if closed else None,
            rate_wanted=None if closed else plan.course.total(plan.warm_up, plan.warm_up + plan.seconds) / plan.seconds,
            rate_reached=self._sent / seconds if seconds else 0.0,
            scheduled=None if closed else self._scheduled,
            sent=self._sent,
            unsent=self._unsent,
        )

    def _second(self, number: int) -> Second:
        plan, each = self._plan, self._seconds[number]
        latencies = Latencies(SERIES_DIGITS)
        for encoded in each.latencies:
            latencies.add(encoded)
        return Second(
            second=number,
            measured=plan.warm_up <= number < plan.warm_up + plan.seconds,
            level=plan.course.at(number + 0.5),
            answered=each.answered,
            failed=each.failed,
            unsent=each.unsent,
            in_flight=sum(in_flight / looks for in_flight, looks in each.in_flight.values() if looks),
            p50_ms=_percentile(latencies, 50),
            p99_ms=_percentile(latencies, 99),
        )

    def _saturation(self, total: NameResult) -> Saturation:
        means = [sum(worker.cpu) / len(worker.cpu) for worker in self._workers.values() if worker.cpu]
        busiest = max(means, default=0.0)
        lag = _percentile(self._lag, 99) or 0.0
        p99 = total.percentile(99.0)
        reasons = []
        if busiest > _BUSY:
            reasons.append(
                f"a worker's processor was {busiest:.0%} busy on average: use more workers, or --client fast"
            )
        if lag > _LAG_MS and (p99 is None or lag > _LAG_SHARE * p99.value_ms):
            reasons.append(
                f"workers woke {lag:.1f} ms late (P99), and latencies can be too high by this much: give the client "
                "more processors"
            )
        if self._unsent:
            reasons.append(
                f"{self._unsent} arrivals were not sent because {self._plan.max_in_flight} requests were in flight: "
                "the endpoint cannot keep up, or raise the limit"
            )
        return Saturation(
            saturated=bool(reasons),
            reasons=tuple(reasons),
            cpu_mean=sum(means) / len(means) if means else 0.0,
            cpu_max=max((use for worker in self._workers.values() for use in worker.cpu), default=0.0),
            lag_p50_ms=_percentile(self._lag, 50) or 0.0,
            lag_p99_ms=lag,
            lag_max_ms=self._lag.max_ms,
        )


def judge(gate: Gate, result: LoadResult) -> GateOutcome:
    """Return whether a result passes a gate; a gate on something that was not measured fails."""
    total = result.total
    if isinstance(gate, LatencyGate):
        latency = _percentile(total.latencies(), gate.percent)
        finding = "no request was answered" if latency is None else f"P{gate.percent:g} is {latency:.3g} ms"
        passed = latency is not None and latency <= gate.limit_ms
        return GateOutcome(gate=gate, passed=passed, found=f"{finding}, at most {gate.limit_ms:g} ms")
    if isinstance(gate, ErrorGate):
        worst = max((total, *result.names), key=lambda each: each.error_rate if each.answered + each.failed else 1.0)
        requests = worst.answered + worst.failed
        kinds = ", ".join(f"{count} {kind}" for kind, count in worst.failures.items())
        finding = f"{worst.error_rate:.3%} of {worst.name} failed" if requests else f"{worst.name} got no request"
        finding += f" ({kinds})" if kinds else ""
        passed = requests > 0 and worst.error_rate <= gate.limit
        return GateOutcome(gate=gate, passed=passed, found=f"{finding}, at most {gate.limit:.3%}")
    if isinstance(gate, LostGate):
        finding = f"{result.workers_lost} of {result.workers_wanted} workers lost, at most {gate.limit}"
        return GateOutcome(gate=gate, passed=result.workers_lost <= gate.limit, found=finding)
    share = result.reached.share
    if share is None:
        return GateOutcome(gate=gate, passed=True, found="a closed loop has no rate to reach")
    finding = f"{share:.2%} of {result.reached.rate_wanted:.4g} requests/s were sent, at least {gate.limit:.2%}"
    return GateOutcome(gate=gate, passed=share >= gate.limit, found=finding)


def _percentile(latencies: Latencies, percent: float) -> float | None:
    if not latencies.count:
        return None
    rank = percentile_rank(latencies.count, percent)
    return latencies.at_ranks_ms([rank])[rank]
