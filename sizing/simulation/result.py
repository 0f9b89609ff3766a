"""Result of a simulation."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sizing.simulation.latencies import Floats, Latencies
from sizing.simulation.scaler import Action

Mode = Literal["events", "aggregated"]


@dataclass(frozen=True, slots=True)
class Series:
    """Time series with one value per window: its end in seconds, rates per second, instances, and latencies in ms."""

    seconds: Floats
    rate: Floats
    errors: Floats
    ready: Floats
    desired: Floats
    p50_ms: Floats
    p99_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of simulating a trace.

    requests: expected or drawn number of requests.
    rejected: requests that found a full queue, or no instance.
    timed_out: requests that took longer than the timeout.
    p50_ms, p90_ms, p99_ms: latency of requests answered in time, in milliseconds.
    instance_hours: hours of desired instances, whether ready or not.
    """

    traffic: str
    mode: Mode
    seconds: float
    requests: float
    rejected: float
    timed_out: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    instance_hours: float
    peak_instances: int
    usd_per_hour: float
    actions: tuple[Action, ...]
    series: Series

    @property
    def error_share(self) -> float:
        """Fraction of requests that were rejected or timed out."""
        return (self.rejected + self.timed_out) / self.requests if self.requests else 0.0

    @property
    def usd(self) -> float:
        """Cost of the instances over the whole trace, in US dollars."""
        return self.instance_hours * self.usd_per_hour

    @property
    def usd_per_day(self) -> float:
        """Cost in US dollars of a day that continues like the trace."""
        return self.usd * 86_400 / self.seconds

    @property
    def usd_per_million(self) -> float:
        """Cost in US dollars of a million answered requests; infinite without any."""
        answered = self.requests - self.rejected - self.timed_out
        return self.usd / answered * 1e6 if answered > 0 else math.inf

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values, with null where there were no requests."""
        named = {
            name: getattr(self, name)
            for name in (
                "traffic", "mode", "seconds", "requests", "rejected", "timed_out", "error_share", "p50_ms", "p90_ms",
                "p99_ms", "instance_hours", "peak_instances", "usd_per_hour", "usd", "usd_per_day", "usd_per_million",
            )
        }  # fmt: skip
        series = {name: getattr(self.series, name).tolist() for name in Series.__slots__}
        summary = {**named, "actions": [asdict(action) for action in self.actions], "series": series}
        return {name: _finite(value) for name, value in summary.items()}


def percentiles(latencies: Latencies) -> dict[str, float]:
    """Return P50, P90 and P99 over all windows, named like the fields of Result."""
    return {f"p{percent}_ms": latencies.percentile_ms(percent) for percent in (50, 90, 99)}


def _finite(value: Any) -> Any:
    """Replace infinity and NaN by None, because JSON has neither."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
