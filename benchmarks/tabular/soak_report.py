"""Result of the soak: its figures, their targets, and whether they are met."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.recorded import Result, Sheet, digits, percentile_ms, verdict
from benchmarks.tabular.soak_account import INSTANCE_TYPE
from benchmarks.tabular.soak_answers import TOLERANCE
from benchmarks.tabular.soak_memory import PROCESSES, SETTLED_FROM, ProcessName, Trend
from benchmarks.tabular.soak_traffic import ADDED, BAD_SHARE, BOTO3_EVERY, REPLACED, SHIFTS, UNKNOWN_MODEL, Tally
from load_tests.closed_loop import Target
from load_tests.cloudwatch import INSTANCES, Totals, totals
from sizing.working_set import Prediction

GROWTH_LIMIT_BYTES = 3_000_000
"""Limit on the growth of the container's memory over the measured part; code and first allocations take 50 MB."""
_COLUMNS = ("figure", "unit", "value", "target", "verdict")
_MEMORY_COLUMNS = (
    "process", "RSS first", f"RSS after {SETTLED_FROM:.0%}", "RSS last", "RSS highest", "PSS last", "growth",
    "growth per 100,000 requests",
)  # fmt: skip
_MB = 1e6
_OTHERS = (
    "the emulator grows by the data points of CloudWatch, which it keeps for 14 days. What the hosting process uses "
    "stays the same, by malloc's own count, read in another run; its RSS grows by free memory that the C library keeps "
    "for each thread that has published metrics, and so to a bound."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the soak: requests, concurrent clients, Zipf exponent, seed, initial models, and models that fit."""

    requests: int
    clients: int
    zipf_exponent: float
    seed: int
    models: int
    slots: int
    memory_per_model_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """CloudWatch metrics of the soak's requests; times are in microseconds.

    hits: ModelCacheHit, 1 or 0 per request.
    waits: ModelLoadingWaitTime.
    downloads, loads: ModelDownloadingTime and ModelLoadingTime, one sample per load.
    unloads: ModelUnloadingTime, one sample per eviction.
    loaded: LoadedModelCount.
    latency: ModelLatency.
    server_errors: Invocation5XXErrors.
    """

    hits: Totals
    waits: Totals
    downloads: Totals
    loads: Totals
    unloads: Totals
    loaded: Totals
    latency: Totals
    server_errors: Totals

    @classmethod
    def read(cls, target: Target) -> "Published":
        """Read an endpoint's metrics up to now."""
        return cls(
            hits=totals(target, "ModelCacheHit"),
            waits=totals(target, "ModelLoadingWaitTime"),
            downloads=totals(target, "ModelDownloadingTime"),
            loads=totals(target, "ModelLoadingTime"),
            unloads=totals(target, "ModelUnloadingTime"),
            loaded=totals(target, "LoadedModelCount", namespace=INSTANCES),
            latency=totals(target, "ModelLatency"),
            server_errors=totals(target, "Invocation5XXErrors"),
        )

    def since(self, before: "Published") -> "Published":
        """Return what was added after an earlier reading."""
        return Published(**{name: now.since(getattr(before, name)) for name, now in self.items()})

    def items(self) -> list[tuple[str, Totals]]:
        """Return every metric with its name in this class."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """End of the soak, when every model is unloaded and invoked again.

    models: models invoked.
    misses: cache misses among them, from CloudWatch.
    right: models that responded as the version uploaded last.
    replaced, replaced_right: the same for models whose archives were replaced.
    """

    models: int
    misses: int
    right: int
    replaced: int
    replaced_right: int


@dataclass(frozen=True, slots=True)
class Line:
    """One figure.

    value: None if no request was answered.
    met: whether the value meets the target; None without a target.
    """

    name: str
    unit: str
    value: float | None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, kw_only=True)
class SoakResult(Result):
    """One soak on one machine.

    seconds: duration of the closed loop.
    done: its requests that were answered or failed.
    replaced_meanwhile: correct responses from a model loaded before its archive was replaced.
    largest_difference: largest difference of a correct response from XGBoost's own prediction.
    restarts: processes that ended and were restarted.
    """

    stem = "soak"
    width = 120

    options: Options
    seconds: float
    done: int
    tally: Tally
    replaced_meanwhile: int
    largest_difference: float
    published: Published
    prediction: Prediction
    reloaded: Reloaded
    memory: Mapping[ProcessName, Trend]
    restarts: int

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every figure except the processes' memory."""
        tally, published, wanted = self.tally, self.published, self.options.requests
        unknown = tally.refused[UNKNOWN_MODEL.code]
        asked = published.hits.count - unknown
        misses = asked - published.hits.sum
        return (
            _at_least("requests", self.done, wanted),
            Line("duration", "s", self.seconds),
            Line("rate", "1/s", self.done / self.seconds),
            Line("P50", "ms", self._percentile_ms(50)),
            Line("P99", "ms", self._percentile_ms(99)),
            Line("longest", "ms", max(tally.seconds, default=0) * 1000),
            Line("right answers", "", tally.right),
            Line("rows in them", "", tally.rows),
            Line("largest difference from XGBoost", "", self.largest_difference),
            _none("wrong answers", tally.wrong.total()),
            _none("failed requests", tally.failed.total()),
            _none("5xx that clients saw", tally.server_errors),
            _none("5xx in CloudWatch", published.server_errors.sum),
            _none("processes that ended", self.restarts),
            Line("bad requests, refused as they must be", "", tally.refused.total()),
            Line("requests through boto3", "", tally.through_boto3),
            _exactly("requests in CloudWatch's ModelCacheHit", published.hits.count, wanted),
            _exactly("models loaded, at the most", published.loaded.maximum, self.options.slots),
            Line("requests that found their model loaded", "", published.hits.sum),
            Line("requests that did not", "", misses),
            Line("hit rate", "%", _percent(published.hits.sum, asked)),
            Line("hit rate, predicted", "%", 100 * (1 - self.prediction.waiting_share)),
            Line("hit rate with loads under way", "%", _percent(asked - published.loads.count, asked)),
            Line("hit rate with loads under way, predicted", "%", 100 * self.prediction.hit_rate),
            Line("loads", "", published.loads.count),
            Line("evictions", "", published.unloads.count),
            Line("wait for a load, mean", "ms", published.waits.average / 1000),
            _exactly("models added", tally.added, ADDED),
            Line("of them asked, and answering rightly", "", len(tally.added_answered)),
            _exactly("archives replaced", tally.replaced, REPLACED),
            Line("right answers of a model whose archive was replaced", "", self.replaced_meanwhile),
            _exactly("models unloaded and asked again", self.reloaded.misses, self.reloaded.models),
            _exactly("of them answered as uploaded last", self.reloaded.right, self.reloaded.models),
            _exactly("replaced models that answer as the new", self.reloaded.replaced_right, self.reloaded.replaced),
            self._growth(),
        )

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "instance_type": INSTANCE_TYPE,
            "options": asdict(self.options),
            "figures": [asdict(line) for line in self.figures],
            "wrong": dict(self.tally.wrong),
            "failed": dict(self.tally.failed),
            "refused": dict(self.tally.refused),
            "examples": self.tally.examples,
            "published": {name: asdict(total) for name, total in self.published.items()},
            "prediction": asdict(self.prediction),
            "memory": {name: asdict(self.memory[name]) for name in PROCESSES},
        }

    @property
    def title(self) -> str:
        """What was soaked, and where."""
        return f"tabular soak, {self.options.models} models in {self.options.slots} places, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        options, tally = self.options, self.tally
        mistakes = "; ".join(f"{count} {kind}" for kind, count in (tally.wrong + tally.failed).most_common()) or "none"
        return (
            f"Machine: {self.machine.describe()}. Local: the account's emulator and hosting process, the container and "
            "the clients share it, so rate and times say little about SageMaker.",
            f"{options.clients} clients, each sending its next request when it has its answer, to one {INSTANCE_TYPE} "
            f"with memory_per_model_mib {options.memory_per_model_mib}. "
            f"{options.requests} requests are what {options.requests / 14_400:.1f} a second send in four hours; here "
            "they follow one another without a pause. Through InvokeEndpoint's REST API, one in "
            f"{BOTO3_EVERY} through boto3. The container evicts nothing itself: the platform unloads the least "
            "recently used model on its 507 and loads it again from S3 when it is asked for.",
            f"Requests choose among {options.models} models by Zipf's law with exponent {options.zipf_exponent:g}, in "
            f"an order of popularity that is drawn anew from all models in each of {SHIFTS} equal parts; seed "
            f"{options.seed}. Of the requests {BAD_SHARE:.0%} are wrong on purpose, half with a value too many, half "
            "with an unknown model's name, and must get ModelError with 400 and ValidationError.",
            f"Every answer is compared with XGBoost's own to {TOLERANCE:g}. Where an archive was replaced, an answer "
            "may come from any version that was uploaded before it arrived, but from none older than one that had "
            "answered before its request was sent. At the end every model is unloaded by asking all others, and asked "
            "again: then only the version uploaded last is right.",
            f"What was wrong or failed: {mistakes}.",
            f"Memory is flat when the container's growth is at most {GROWTH_LIMIT_BYTES / _MB:g} MB: growth is that of "
            "the least-squares line through its RSS over the answered requests, from the first sample after "
            f"{SETTLED_FROM:.0%} of the soak to the last. The other two are not judged: {_OTHERS}",
            "The predictions are sizing.working_set's for these models, places and exponent, and for the rate and the "
            "load time that were measured. They hold for one order of popularity and one request at a time: after each "
            f"of the {SHIFTS} the models that fit are loaded anew, and while a model is on its way, the one that it "
            "replaces is still there. The more clients, the more are on their way and the higher is the measured rate; "
            "with --clients 1 it is the predicted one.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (line.name, line.unit, "-" if line.value is None else digits(line.value), line.target, verdict(line.met))
            for line in self.figures
        ]
        memory = [(name, *_trend_cells(self.memory[name])) for name in PROCESSES]
        return [
            Sheet(_COLUMNS, ("value",), rows),
            Sheet(_MEMORY_COLUMNS, _MEMORY_COLUMNS[1:], memory, title="Memory in MB"),
        ]

    def _percentile_ms(self, percent: int) -> float | None:
        if len(self.tally.seconds) < 2:
            return None
        return percentile_ms(self.tally.seconds, percent)

    def _growth(self) -> Line:
        growth = self.memory["container"].growth_bytes
        limit = f"at most {GROWTH_LIMIT_BYTES / _MB:g}"
        return Line("growth of the container's memory", "MB", growth / _MB, limit, growth <= GROWTH_LIMIT_BYTES)


def _trend_cells(trend: Trend) -> list[str]:
    values = (
        trend.first.rss_bytes, trend.settled.rss_bytes, trend.last.rss_bytes, trend.highest_rss_bytes,
        trend.last.pss_bytes, trend.growth_bytes, trend.growth_bytes_per_100k_requests,
    )  # fmt: skip
    return [f"{value / _MB:.1f}" for value in values]


def _at_least(name: str, value: int, wanted: int) -> Line:
    return Line(name, "", value, f"at least {wanted}", value >= wanted)


def _none(name: str, value: float) -> Line:
    return Line(name, "", value, "0", value == 0)


def _exactly(name: str, value: float, wanted: int) -> Line:
    return Line(name, "", value, f"exactly {wanted}", value == wanted)


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None
