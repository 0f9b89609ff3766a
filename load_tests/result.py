"""What a load test found, as one document of a stated version that reports and sizing read."""

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
    """A percentile of latencies, in milliseconds, with its 95 % confidence interval.

    low_ms, high_ms: order statistics; None where there are too few samples for one to exist. samples: "too_few" below
    ten beyond the percentile, or where a bound is missing; "mlperf" where there are as many as MLPerf asks for, which
    holds the percentile's rank within a twentieth of its distance to 100 at 99 % confidence; "fair" between.
    needed: samples for "fair". needed_mlperf: samples for "mlperf".
    """

    percent: float
    value_ms: float
    low_ms: float | None
    high_ms: float | None
    samples: Samples
    needed: int
    needed_mlperf: int


class NameResult(_Part):
    """The requests of one name, or of all, that began within the measured time.

    answered_per_second: answers by the measured time. failures: their number by kind. Latencies are of answered
    requests only, in an open loop from the scheduled time. histogram: load_tests.histogram's encoding, in
    microseconds.
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
        """The histogram, to merge or to ask for more."""
        return Latencies.decoded(self.histogram)

    def percentile(self, percent: float) -> Percentile | None:
        """That percentile; None where nothing was answered or it is none of those in the result."""
        return next((each for each in self.percentiles if each.percent == percent), None)


class Second(_Part):
    """One second of the test, counted from its beginning; the warm-up is there too.

    level: users or requests a second that the shape has here. answered, failed: requests that ended in it.
    unsent: arrivals that the bound on requests in flight kept back. in_flight: mean. p50_ms, p99_ms: of the requests
    answered in it, in two digits; None without any.
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
    """What was asked for and what was there.

    users: most at once; in an open loop both are None. rate: requests scheduled and sent a second, in the measured
    time; a closed loop schedules none. scheduled, sent, unsent: requests of the measured time.
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
        """Requests sent by requests scheduled; None in a closed loop."""
        return None if self.scheduled is None else self.sent / self.scheduled if self.scheduled else 0.0


class Worker(_Part):
    """One worker process: whether its final report is missing, and its processor's use in the measured time, 0 to 1."""

    name: str
    lost: bool
    cpu_mean: float
    cpu_max: float


class Saturation(_Part):
    """Whether the client itself was the limit, so that latencies and rates are not the endpoint's alone.

    reasons: empty, or one sentence for each sign. lag_p50_ms, lag_p99_ms, lag_max_ms: how late a worker wakes from a
    sleep, which every latency may be too long by.
    """

    saturated: bool
    reasons: tuple[str, ...]
    cpu_mean: float
    cpu_max: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float


class GateOutcome(_Part):
    """A gate, whether it passed, and what was found, in words."""

    gate: Gate
    passed: bool
    found: str


class LoadResult(_Part):
    """A whole load test. `measured_seconds`: without the warm-up. `failure_p50_ms`: of failed requests, None without.

    location: "local" is the local account on `machine`, whose figures are not AWS's; on AWS `machine` is the client's.
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
        """Workers that never came, or did not report at the end."""
        return self.workers_wanted - sum(not worker.lost for worker in self.workers)

    @classmethod
    def read(cls, path: Path) -> "LoadResult":
        """From a file that `write` made; raises pydantic's ValidationError for another schema."""
        return cls.model_validate_json(path.read_text())

    def write(self, path: Path) -> None:
        """Replaces a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n")
