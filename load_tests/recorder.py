"""What one worker saw, and the parts of it that go to the master once a second."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from load_tests.histogram import SERIES_DIGITS, Latencies


class Recorder:
    """Counts and latencies since the last report; times are seconds of the test, 0 at its beginning.

    A request belongs to the measured time when it begins in it, in an open loop by its schedule: every worker decides
    by the request's own time, so that no statistics need to be reset on all workers at one moment.
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
        """Sets second 0 of the test to now."""
        self._zero = self._clock()

    @property
    def now(self) -> float:
        """Seconds of the test; below 0 before it began."""
        return -1.0 if self._zero is None else self._clock() - self._zero

    def measured(self, moment: float) -> bool:
        """Whether a second lies in the measured time."""
        return self._begin <= moment < self._end

    def scheduled(self, count: int) -> None:
        """Adds to the arrivals of the measured time."""
        self._scheduled += count

    def sent(self, moment: float) -> None:
        """A request goes out."""
        if self.measured(moment):
            self._sent += 1

    def unsent(self, moment: float) -> None:
        """The bound on requests in flight kept an arrival back."""
        self._seconds[int(moment)].unsent += 1
        if self.measured(moment):
            self._unsent += 1

    def answered(self, name: str, began: float) -> float:
        """A request that began, or was due, at `began` is answered now; returns its latency in seconds."""
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
        """As `answered`, for a request that was refused or not answered."""
        now = self.now
        latency = now - began
        self._seconds[int(now)].failed += 1
        if self.measured(began):
            self._last = max(self._last, now)
            self._names[name].failures[kind] += 1
            self._failed.record(latency)
        return latency

    def looked(self, in_flight: int, lag: float) -> None:
        """A look at the worker itself: requests in flight, and how late it woke, in seconds."""
        now = self.now
        if now < 0:
            return
        second = self._seconds[int(now)]
        second.looks += 1
        second.in_flight += in_flight
        if self.measured(now):
            self._lag.record(max(0.0, lag))

    def processor(self, use: float) -> None:
        """The processor's use of the last second, 0 to 1."""
        if self.measured(self.now):
            self._cpu.append(use)

    def take(self) -> dict[str, Any]:
        """What was added since the last call, as msgpack and JSON can carry it."""
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
