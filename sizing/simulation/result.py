"""What a simulation found."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sizing.simulation.latencies import Floats, Latencies
from sizing.simulation.scaler import Action

Mode = Literal["events", "aggregated"]


@dataclass(frozen=True, slots=True)
class Series:
    """One figure for each window: its end in seconds, rate and errors a second, instances, percentiles in ms."""

    seconds: Floats
    rate: Floats
    errors: Floats
    ready: Floats
    desired: Floats
    p50_ms: Floats
    p99_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A simulated trace.

    requests: expected or drawn. rejected: found a full queue, or no instance. timed_out: took longer than the timeout.
    Percentiles in ms are of requests that were answered in time. instance_hours: asked for, ready or not.
    usd_per_day: US dollars for a day that goes on like the trace.
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
        """Share of requests that were rejected or timed out."""
        return (self.rejected + self.timed_out) / self.requests if self.requests else 0.0

    @property
    def usd(self) -> float:
        """US dollars for the instances of the whole trace."""
        return self.instance_hours * self.usd_per_hour

    @property
    def usd_per_day(self) -> float:
        """US dollars for a day that goes on like the trace."""
        return self.usd * 86_400 / self.seconds

    @property
    def usd_per_million(self) -> float:
        """US dollars for a million requests that were answered; infinite without any."""
        answered = self.requests - self.rejected - self.timed_out
        return self.usd / answered * 1e6 if answered > 0 else math.inf

    def summary(self) -> dict[str, Any]:
        """JSON values, without figures where there were no requests."""
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
    """P50, P90 and P99 of all windows, by the names that Result has."""
    return {f"p{percent}_ms": latencies.percentile_ms(percent) for percent in (50, 90, 99)}


def _finite(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
