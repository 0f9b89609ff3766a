"""A report as one document of a stated version: what was measured, what follows from it, and why."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA_VERSION: Literal[1] = 1
Location = Literal["local", "aws"]


class ReportError(ValueError):
    """A report cannot be made or read; the message says what is missing and how to get it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Load(_Part):
    """One load test in a closed loop.

    rate: answered a second. Latencies in milliseconds. p99_low_ms, p99_high_ms: 95 % confidence interval; None with
    too few samples. samples: answered requests. saturated: why the client itself was the limit; empty where it was
    not. users: at the same time. quantiles_ms: probability and latency, for the plot and for sizing.
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
    """What the build's own evaluation says. kept: of the reference's score, 1 is all; None where there is none.

    samples: questions, images or rows. passed: whether the gate let it through.
    """

    metric: str
    value: float
    reference: float | None
    kept: float | None
    samples: int | None
    passed: bool


class Candidate(_Part):
    """One variant of an endpoint.

    name: endpoint and variant. label: what tells it from the others of its group. what: the engine, precision or
        server in words. alone, busy: with one user, and with enough to saturate it; None where it was not measured.
    usd_per_hour: of an instance; None without a price.
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
        """US dollars for a million requests on an instance that is always busy."""
        if self.usd_per_hour is None or self.busy is None or not self.busy.rate:
            return None
        return self.usd_per_hour / 3600 / self.busy.rate * 1e6


class Judged(_Part):
    """A candidate's place in the decision: chosen, or why it lost."""

    name: str
    chosen: bool
    reason: str


class SizedRow(_Part):
    """What a candidate would need for the demand; numbers are None where it cannot do it."""

    name: str
    instances: int | None
    p99_ms: float | None
    target_invocations_per_instance: float | None
    utilisation: float | None
    usd_per_hour: float | None
    reason: str


class Scaling(_Part):
    """A simulated day of the chosen candidate. picture: SVG. usd_fixed: of the peak's instances all day."""

    traffic: str
    p99_ms: float
    error_share: float
    instance_hours: float
    usd_per_day: float
    usd_fixed: float
    picture: str


class Group(_Part):
    """Candidates for the same requests, and the decision between them.

    chosen: a candidate's name; None where none can be. headline: the decision in a sentence. caveats: what these
    figures do not say. rate, p99_ms: the demand that sizing and scaling are for.
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
        """The candidate of that name."""
        return next((each for each in self.candidates if each.name == name), None)


class Build(_Part):
    """What a build made: where its model comes from, its engine, and its scores in words."""

    workload: str
    name: str
    source: str
    engine: str
    scores: str


class Report(_Part):
    """A whole report. commit: of the project; None where it is not known."""

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
        """From a file that `inference report` made; raises ReportError."""
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise ReportError(f"{path} cannot be read: {error.strerror}; give the report.json of a report") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ReportError(f"{path} is no report of version {SCHEMA_VERSION}: {where}: {first['msg']}") from error
