"""Result of a load test, as a versioned document that reports and sizing read."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from load_tests.gates import Gate
from load_tests.histogram import Latencies
from load_tests.plan import Client, Mode
from load_tests.shapes import Shape

SCHEMA_VERSION: Literal[1] = 1
Samples = Literal["too_few", "fair", "mlperf"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Percentile(_Part):
    """A latency percentile in milliseconds, with its 95 % confidence interval.

    low_ms, high_ms: bounds of the interval, as order statistics; None with too few samples for one.
    samples: "too_few" with fewer than ten samples beyond the percentile, or without one of the bounds. "mlperf" with
        as many samples as MLPerf asks for, which puts the percentile's rank within a twentieth of its distance to 100
        at 99 % confidence. "fair" in between.
    needed: samples needed for "fair".
    needed_mlperf: samples needed for "mlperf".
    """

    percent: float
    value_ms: float
    low_ms: float | None
    high_ms: float | None
    samples: Samples
    needed: int
    needed_mlperf: int


class NameResult(_Part):
    """Requests of one name, or of all names, that began within the measured time.

    answered_per_second: answered requests over the measured time.
    failures: number of failures by kind.
    mean_ms, min_ms, max_ms, percentiles: latencies of answered requests only; in an open loop, counted from the
        scheduled time.
    histogram: latencies in microseconds, encoded by load_tests.histogram.
    """

    name: str
    answered: int
    failed: int
    answered_per_second: float
    error_rate: float
    failures: dict[str, int]
    mean_ms: float
    min_ms: float
    max_ms: float
    percentiles: tuple[Percentile, ...]
    histogram: str

    def latencies(self) -> Latencies:
        """Decode the histogram, for merging or for other percentiles."""
        return Latencies.decoded(self.histogram)

    def percentile(self, percent: float) -> Percentile | None:
        """Return a percentile of the result; None if nothing was answered or the result does not list it."""
        return next((each for each in self.percentiles if each.percent == percent), None)


class Second(_Part):
    """One second of the test, counted from its start, including the warm-up.

    level: users, or requests per second, that the shape sets for this second.
    answered, failed: requests that ended in this second.
    unsent: arrivals held back by the limit on requests in flight.
    in_flight: mean number of requests in flight.
    p50_ms, p99_ms: latencies of the requests answered in this second, to two digits; None without any.
    """

    second: int
    measured: bool
    level: float
    answered: int
    failed: int
    unsent: int
    in_flight: float
    p50_ms: float | None
    p99_ms: float | None


class Reached(_Part):
    """Requested load compared with the load that was reached.

    users_wanted, users_reached: most users at once; None in an open loop.
    rate_wanted, rate_reached: requests scheduled and sent per second of the measured time; a closed loop schedules
        none.
    scheduled, sent, unsent: requests of the measured time.
    """

    users_wanted: int | None
    users_reached: int | None
    rate_wanted: float | None
    rate_reached: float
    scheduled: int | None
    sent: int
    unsent: int

    @property
    def share(self) -> float | None:
        """Fraction of the scheduled requests that were sent; None in a closed loop."""
        return None if self.scheduled is None else self.sent / self.scheduled if self.scheduled else 0.0


class Worker(_Part):
    """One worker process.

    lost: whether its final report is missing.
    cpu_mean, cpu_max: its processor utilization in the measured time, 0 to 1.
    """

    name: str
    lost: bool
    cpu_mean: float
    cpu_max: float


class Saturation(_Part):
    """Whether the client itself was the bottleneck, so latencies and rates are not the endpoint's alone.

    reasons: one sentence per sign of saturation; empty without any.
    lag_p50_ms, lag_p99_ms, lag_max_ms: delay of a worker waking from a sleep; any latency can be too high by this much.
    """

    saturated: bool
    reasons: tuple[str, ...]
    cpu_mean: float
    cpu_max: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float


class GateOutcome(_Part):
    """A gate, whether it passed, and the measured value in words."""

    gate: Gate
    passed: bool
    found: str


class LoadResult(_Part):
    """A complete load test.

    location: "local" means the local account on `machine`, whose figures are not AWS's; on AWS, `machine` is the
        client's.
    measured_seconds: duration without the warm-up.
    failure_p50_ms: median latency of failed requests; None without any.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    workload: str
    endpoint: str
    variant: str | None
    instance_type: str | None
    location: Literal["local", "aws"]
    machine: str
    started_at: datetime
    client: Client
    mode: Mode
    shape: Shape
    level: float
    warm_up_seconds: float
    measured_seconds: float
    pause: tuple[float, float]
    seed: int
    reached: Reached
    total: NameResult
    names: tuple[NameResult, ...]
    failure_p50_ms: float | None
    series: tuple[Second, ...]
    workers_wanted: int
    workers: tuple[Worker, ...]
    saturation: Saturation
    gates: tuple[GateOutcome, ...]
    passed: bool

    @property
    def workers_lost(self) -> int:
        """Number of workers that never connected or did not report at the end."""
        return self.workers_wanted - sum(not worker.lost for worker in self.workers)

    @classmethod
    def read(cls, path: Path) -> "LoadResult":
        """Read a file that `write` created; raises pydantic's ValidationError for another schema."""
        return cls.model_validate_json(path.read_text())

    def write(self, path: Path) -> None:
        """Write a JSON file, replacing an existing one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n")
