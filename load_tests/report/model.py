"""Data model of a report, stored as a versioned document: the measurements, the decision, and the reasons for it."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA_VERSION: Literal[1] = 1
Location = Literal["local", "aws"]


class ReportError(ValueError):
    """A report cannot be created or read; the message says what is missing and how to get it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Demanded(_Part):
    """Demand that a report sizes for.

    rate: peak requests per second of each workload.
    p99_ms: P99 latency target, in milliseconds; None means the threshold of each endpoint's alarm.
    """

    rate: float
    p99_ms: float | None


class Load(_Part):
    """One closed-loop load test. Latencies are in milliseconds.

    users: concurrent users.
    rate: answered requests per second.
    p99_low_ms, p99_high_ms: 95 % confidence interval; None with too few samples.
    samples: answered requests.
    saturated: why the client itself was the bottleneck; empty when it was not.
    quantiles_ms: pairs of probability and latency, for the plot and for sizing.
    """

    users: int
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_low_ms: float | None
    p99_high_ms: float | None
    error_rate: float
    samples: int
    saturated: tuple[str, ...]
    location: Location
    machine: str
    started_at: datetime
    quantiles_ms: tuple[tuple[float, float], ...]


class Quality(_Part):
    """Quality score from the build's own evaluation.

    kept: fraction of the reference's score, 1 for all of it; None without a reference.
    samples: questions, images or rows evaluated.
    passed: whether the build passed its quality gate.
    """

    metric: str
    value: float
    reference: float | None
    kept: float | None
    samples: int | None
    passed: bool


class Candidate(_Part):
    """One variant of an endpoint.

    name: endpoint and variant.
    label: what distinguishes it from the other candidates of its group.
    what: the engine, precision or server in words.
    alone, busy: load tests with one user, and with enough users to saturate it; None if not measured.
    usd_per_hour: price of one instance; None if unknown.
    """

    name: str
    label: str
    endpoint: str
    variant: str
    what: str
    instance_type: str
    usd_per_hour: float | None
    quality: Quality | None
    alone: Load | None
    busy: Load | None

    @property
    def usd_per_million(self) -> float | None:
        """Cost in US dollars of a million requests on an instance that is always busy."""
        if self.usd_per_hour is None or self.busy is None or not self.busy.rate:
            return None
        return self.usd_per_hour / 3600 / self.busy.rate * 1e6


class Judged(_Part):
    """The verdict on a candidate: whether it is chosen, and why or why not."""

    name: str
    chosen: bool
    reason: str


class SizedRow(_Part):
    """Instances that a candidate needs for the demand; numbers are None if it cannot meet it."""

    name: str
    instances: int | None
    p99_ms: float | None
    target_invocations_per_instance: float | None
    utilization: float | None
    usd_per_hour: float | None
    reason: str


class Scaling(_Part):
    """A simulated day of the chosen candidate.

    picture: SVG.
    usd_fixed: cost of running the peak's instances all day.
    """

    traffic: str
    p99_ms: float
    error_share: float
    instance_hours: float
    usd_per_day: float
    usd_fixed: float
    picture: str


class Group(_Part):
    """Candidates for the same requests, and the decision between them.

    chosen: name of the chosen candidate; None if none qualifies.
    headline: the decision in one sentence.
    caveats: limits of what these figures show.
    rate, p99_ms: demand used for sizing and scaling.
    """

    workload: str
    title: str
    question: str
    candidates: tuple[Candidate, ...]
    chosen: str | None
    headline: str
    judged: tuple[Judged, ...]
    caveats: tuple[str, ...]
    rate: float
    p99_ms: float
    sized: tuple[SizedRow, ...]
    scaling: Scaling | None

    def candidate(self, name: str) -> Candidate | None:
        """Return the candidate with that name; None if there is none."""
        return next((each for each in self.candidates if each.name == name), None)


class Build(_Part):
    """Result of a build: the model's source, its engine, and its scores in words."""

    workload: str
    name: str
    source: str
    engine: str
    scores: str


class Report(_Part):
    """A complete report.

    commit: commit of the project; None if unknown.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    deployment: str
    made_at: datetime
    location: Location
    machine: str
    commit: str | None
    builds: tuple[Build, ...]
    groups: tuple[Group, ...]

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a report.json from `inference report`; raises ReportError."""
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise ReportError(f"{path} cannot be read: {error.strerror}; give the report.json of a report") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ReportError(f"{path} is not a report of version {SCHEMA_VERSION}: {where}: {first['msg']}") from error
