"""Record a simulation's figures per time window."""

import math

import numpy as np

from sizing.simulation.latencies import Floats, Latencies
from sizing.simulation.result import Mode, Result, Series, percentiles
from sizing.simulation.scaler import Scaler


class Recorder:
    """Recorder of a simulation that creates its result.

    window_seconds: length of a window.
    """

    def __init__(self, seconds: float, window_seconds: float) -> None:
        count = max(1, math.ceil(seconds / window_seconds))
        self.latencies = Latencies(count)
        self.requests = self.rejected = self.timed_out = self.instance_seconds = 0.0
        self.peak = 0
        self.windows, self.window_seconds = count, window_seconds
        self._seconds = seconds
        self._rates, self._errors, self._ready, self._desired = (np.zeros(count) for _ in range(4))

    def window(self, second: float) -> int:
        """Return the window that contains a time."""
        return min(len(self._rates) - 1, int(second / self.window_seconds))

    def span(self, begin: float, end: float, scaler: Scaler) -> None:
        """Record the instances between two times, during which they did not change."""
        self.instance_seconds += (end - begin) * max(scaler.ready, scaler.desired)
        self.peak = max(self.peak, scaler.desired, scaler.ready)
        for window in range(self.window(begin), self.window(max(begin, end - 1e-9)) + 1):
            self._ready[window], self._desired[window] = scaler.ready, scaler.desired

    def served(self, window: int, requests: float, *, rejected: float = 0.0, timed_out: float = 0.0) -> None:
        """Record requests of a window, and how many of them failed."""
        self.requests += requests
        self.rejected += rejected
        self.timed_out += timed_out
        self._rates[window] += requests
        self._errors[window] += rejected + timed_out

    def result(self, traffic: str, mode: Mode, usd_per_hour: float, scaler: Scaler) -> Result:
        """Return the result of everything recorded."""
        ends: Floats = np.minimum(self.window_seconds * (np.arange(len(self._rates)) + 1), self._seconds)
        lengths = np.diff(ends, prepend=0.0)
        return Result(
            traffic=traffic,
            mode=mode,
            seconds=self._seconds,
            requests=self.requests,
            rejected=self.rejected,
            timed_out=self.timed_out,
            **percentiles(self.latencies),
            instance_hours=self.instance_seconds / 3600,
            peak_instances=self.peak,
            usd_per_hour=usd_per_hour,
            actions=tuple(scaler.actions),
            series=Series(
                seconds=ends,
                rate=self._rates / lengths,
                errors=self._errors / lengths,
                ready=self._ready,
                desired=self._desired,
                p50_ms=self.latencies.window_percentiles_ms(50),
                p99_ms=self.latencies.window_percentiles_ms(99),
            ),
        )
