"""Measurements of one worker, and the reports that it sends to the master once a second."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from load_tests.histogram import SERIES_DIGITS, Latencies


class Recorder:
    """Counts and latencies since the last report; times are seconds since the beginning of the test.

    A request is measured if it begins within the measured time, by its schedule in an open loop. Every worker decides
    by the request's own time, so no statistics need to be reset on all workers at once.
    """

    def __init__(self, warm_up: float, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._begin, self._end = warm_up, warm_up + seconds
        self._clock = clock
        self._zero: float | None = None
        self._names: defaultdict[str, _Name] = defaultdict(_Name)
        self._seconds: defaultdict[int, _Second] = defaultdict(_Second)
        self._failed, self._lag = Latencies(), Latencies()
        self._cpu: list[float] = []
        self._sent = self._unsent = self._scheduled = 0
        self._last = 0.0

    def start(self) -> None:
        """Set second 0 of the test to now."""
        self._zero = self._clock()

    @property
    def now(self) -> float:
        """Seconds since the test began; negative before that."""
        return -1.0 if self._zero is None else self._clock() - self._zero

    def measured(self, moment: float) -> bool:
        """Return whether a second is in the measured time."""
        return self._begin <= moment < self._end

    def scheduled(self, count: int) -> None:
        """Add to the number of arrivals scheduled in the measured time."""
        self._scheduled += count

    def sent(self, moment: float) -> None:
        """Record that a request is sent."""
        if self.measured(moment):
            self._sent += 1

    def unsent(self, moment: float) -> None:
        """Record an arrival that was not sent because of the limit on requests in flight."""
        self._seconds[int(moment)].unsent += 1
        if self.measured(moment):
            self._unsent += 1

    def answered(self, name: str, began: float) -> float:
        """Record that a request that began, or was due, at `began` is answered; return its latency in seconds."""
        now = self.now
        latency = now - began
        second = self._seconds[int(now)]
        second.answered += 1
        second.latencies.record(latency)
        if self.measured(began):
            self._last = max(self._last, now)
            self._names[name].latencies.record(latency)
        return latency

    def failed(self, name: str, kind: str, began: float) -> float:
        """Record that a request was refused or not answered; otherwise like `answered`."""
        now = self.now
        latency = now - began
        self._seconds[int(now)].failed += 1
        if self.measured(began):
            self._last = max(self._last, now)
            self._names[name].failures[kind] += 1
            self._failed.record(latency)
        return latency

    def looked(self, in_flight: int, lag: float) -> None:
        """Record a sample of the worker itself: requests in flight, and wake-up delay in seconds."""
        now = self.now
        if now < 0:
            return
        second = self._seconds[int(now)]
        second.looks += 1
        second.in_flight += in_flight
        if self.measured(now):
            self._lag.record(max(0.0, lag))

    def processor(self, use: float) -> None:
        """Record the processor utilization of the last second, 0 to 1."""
        if self.measured(self.now):
            self._cpu.append(use)

    def take(self) -> dict[str, Any]:
        """Return everything recorded since the last call, in types that msgpack and JSON support."""
        report = {
            "names": {name: each.report() for name, each in self._names.items()},
            "seconds": {str(number): each.report() for number, each in self._seconds.items()},
            "failed_latencies": self._failed.encode(),
            "lag": self._lag.encode(),
            "cpu": self._cpu,
            "sent": self._sent,
            "unsent": self._unsent,
            "scheduled": self._scheduled,
            "last": self._last,
        }
        for each in self._names.values():
            each.reset()
        self._seconds.clear()
        self._failed.reset()
        self._lag.reset()
        self._cpu = []
        self._sent = self._unsent = self._scheduled = 0
        return report


class _Name:
    def __init__(self) -> None:
        self.latencies = Latencies()
        self.failures: defaultdict[str, int] = defaultdict(int)

    def report(self) -> dict[str, Any]:
        return {"latencies": self.latencies.encode(), "failures": dict(self.failures)}

    def reset(self) -> None:
        self.latencies.reset()
        self.failures.clear()


class _Second:
    def __init__(self) -> None:
        self.answered = self.failed = self.unsent = self.in_flight = self.looks = 0
        self.latencies = Latencies(SERIES_DIGITS)

    def report(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "failed": self.failed,
            "unsent": self.unsent,
            "in_flight": self.in_flight,
            "looks": self.looks,
            "latencies": self.latencies.encode() if self.answered else None,
        }
