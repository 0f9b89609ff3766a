"""Result of the servers: latency and throughput compared with the bare engine, targets, and whether they are met."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.encoder.lengths import SQUAD_LENGTHS
from benchmarks.encoder.open_loop import Answered
from benchmarks.encoder.programs import OURS
from benchmarks.recorded import Figure, Result, Sheet, at_least, at_most, figure_sheet, percentile_ms

_COLUMNS = (
    "server", "alone P50 ms", "most/s", "slowest turn", "70 %: P50 ms", "P99 ms", "3 times: answered/s", "refused/s",
    "too late", "refusal P50 ms", "memory MiB", "start s",
)  # fmt: skip
_TURN_SECONDS = 4.0
PATIENCE_SECONDS = 2.0
"""Time after which a response is of no use to its client."""


@dataclass(frozen=True, slots=True)
class Load:
    """Outcome of requests at a rate that does not depend on the server."""

    rate: float
    seconds: float
    answered: tuple[Answered, ...]

    def per_second(self, status: int) -> float:
        """Return the rate of responses with this status within PATIENCE_SECONDS, over the time of sending."""
        return sum(each.status == status and each.latency <= PATIENCE_SECONDS for each in self.answered) / self.seconds

    def percentile_ms(self, percent: int, status: int = 200) -> float | None:
        """Return a latency percentile of responses with this status, from when they were due; None below a hundred."""
        latencies = [each.latency for each in self.answered if each.status == status]
        return percentile_ms(latencies, percent) if len(latencies) >= 100 else None

    @property
    def too_late(self) -> int:
        """Number of requests that were neither answered nor refused within PATIENCE_SECONDS."""
        good = (each.status in (200, 503) and each.latency <= PATIENCE_SECONDS for each in self.answered)
        return len(self.answered) - sum(good)


@dataclass(eq=False, slots=True)
class Measured:
    """Turns of one server.

    alone, busy: latencies in seconds, with one connection and with many.
    moderate, overload: outcome of both open loops.
    """

    name: str
    start_seconds: float
    alone: list[list[float]] = field(default_factory=list)
    busy: list[list[float]] = field(default_factory=list)
    moderate: Load | None = None
    overload: Load | None = None
    resident_bytes: int = 0

    @property
    def rates(self) -> tuple[float, ...]:
        """Responses per second of each busy turn."""
        return tuple(len(turn) / _TURN_SECONDS for turn in self.busy)

    @property
    def rate(self) -> float:
        """Responses per second of the median busy turn."""
        return statistics.median(self.rates)

    @property
    def alone_seconds(self) -> list[float]:
        """Latencies in seconds of all turns with one connection."""
        return [latency for turn in self.alone for latency in turn]


@dataclass(frozen=True, kw_only=True)
class ServerResult(Result):
    """One run on one machine.

    bare_seconds: seconds of the engine for one row.
    bare_rates: questions per second of the engine, by how it is run.
    queued_seconds: durations of the requests at 70 % if lanes of the bare engine served them, first come, first served.
    """

    stem = "server-local"
    width = 150

    turns: int
    measured: tuple[Measured, ...]
    bare_seconds: tuple[float, ...]
    bare_rates: Mapping[str, tuple[float, ...]]
    queued_seconds: tuple[float, ...]

    @property
    def bare_best(self) -> tuple[str, float]:
        """Fastest way to run the engine, and its questions per second."""
        medians = {name: statistics.median(rates) for name, rates in self.bare_rates.items()}
        best = max(medians, key=medians.__getitem__)
        return best, medians[best]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Figures of our server, with their targets."""
        ours = next(each for each in self.measured if each.name == OURS)
        others = [each for each in self.measured if each.name != OURS]
        bare, (how, best) = statistics.fmean(self.bare_seconds), self.bare_best
        added = statistics.fmean(ours.alone_seconds) / bare - 1
        fastest = max(others, key=lambda each: each.rate)
        quickest = min(others, key=lambda each: statistics.fmean(each.alone_seconds))
        assert ours.moderate is not None and ours.overload is not None
        lines = [
            at_most("added to the bare engine alone, mean, %", 100 * added, 5),
            at_least(f"most/s over the bare engine's best ({how})", ours.rate / best, 0.95),
            Figure(f"most/s over {fastest.name}", ours.rate / fastest.rate, "over 1", ours.rate > fastest.rate),
            Figure(
                f"mean latency alone over {quickest.name}",
                statistics.fmean(ours.alone_seconds) / statistics.fmean(quickest.alone_seconds),
            ),
        ]
        p50, p99 = ours.moderate.percentile_ms(50), ours.moderate.percentile_ms(99)
        if p50 is not None and p99 is not None:
            lines.append(at_most("P99 over P50 at 70 % of its most, Poisson", p99 / p50, 3))
        queued = [percentile_ms(self.queued_seconds, percent) for percent in (50, 99)]
        lines.append(Figure("the same of lanes of the bare engine, simulated", queued[1] / queued[0]))
        return (
            *lines,
            at_least("answered at three times its most, over its most", ours.overload.per_second(200) / ours.rate, 0.9),
            at_most("memory after all that, MiB", ours.resident_bytes / 2**20, 450),
            at_most("start to /ping, s", ours.start_seconds, 2),
        )

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "bare": {
                "mean_ms": statistics.fmean(self.bare_seconds) * 1000,
                "queued_p50_ms": percentile_ms(self.queued_seconds, 50),
                "queued_p99_ms": percentile_ms(self.queued_seconds, 99),
                "questions_per_second": {name: list(rates) for name, rates in self.bare_rates.items()},
            },
            "servers": [
                {
                    "server": each.name,
                    "alone_mean_ms": statistics.fmean(each.alone_seconds) * 1000,
                    "alone_p50_ms": percentile_ms(each.alone_seconds, 50),
                    "alone_requests": len(each.alone_seconds),
                    "most_per_second": each.rate,
                    "turns": each.rates,
                    "moderate": _summary(each.moderate),
                    "overload": _summary(each.overload),
                    "resident_bytes": each.resident_bytes,
                    "start_seconds": each.start_seconds,
                }
                for each in self.measured
            ],
            "figures": [asdict(line) for line in self.figures],
        }

    @property
    def title(self) -> str:
        """What is compared, and where."""
        return f"Servers of one INT8 BERT-base on {self.machine.cores} cores, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        queued = [percentile_ms(self.queued_seconds, percent) for percent in (50, 99)]
        rates = ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in self.bare_rates.items())
        return (
            f"Machine: {self.machine.describe()}. The client shares its cores. Local: a figure of another machine "
            "differs, ratios less so.",
            f"The same INT8 engine, forty texts of SQuAD's lengths (mean {statistics.fmean(SQUAD_LENGTHS):.0f} "
            f"tokens); alone: one connection; most: 32; in {self.turns} turns of {_TURN_SECONDS:g} s of every server. "
            "Whoever does not run is stopped. Then Poisson arrivals at 70 % of each server's own most, and at three "
            "times; latency counts from when a request was due, and an answer after 2 s is too late.",
            "Bare engine, without HTTP, JSON, tokenizer or span search: "
            f"{statistics.fmean(self.bare_seconds) * 1000:.1f} ms a row; questions a second {rates}. Its batches are "
            "of sorted lengths, which no server can choose.",
            "Simulated: the same arrivals and lengths, each on the first free lane for as long as the engine takes: "
            f"{queued[0]:.0f} ms at P50 and {queued[1]:.0f} ms at P99, which is what waiting alone makes of a server "
            "that adds nothing. Short questions first would make the ratio worse: P50 falls and P99 grows.",
            "The rivals have no limit to what waits: they refuse nothing, so in overload their latency grows with its "
            "length. FastAPI answers one at a time; LitServe batches up to 8 within 10 ms.",
            "BentoML's newest release wants a newer certifi than could be had, TorchServe a Java; neither is measured.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        return [
            Sheet(_COLUMNS, _COLUMNS[1:], [_row(each) for each in self.measured]),
            figure_sheet(self.figures),
        ]


def _summary(load: Load | None) -> dict[str, Any] | None:
    if load is None:
        return None
    return {
        "rate": load.rate,
        "seconds": load.seconds,
        "statuses": dict(sorted(Counter(each.status for each in load.answered).items())),
        "p50_ms": load.percentile_ms(50),
        "p99_ms": load.percentile_ms(99),
        "refusal_p50_ms": load.percentile_ms(50, 503),
        "sent_late_p99_ms": percentile_ms([each.late for each in load.answered], 99),
    }


def _row(each: Measured) -> tuple[str, ...]:
    assert each.moderate is not None and each.overload is not None
    return (
        each.name,
        f"{percentile_ms(each.alone_seconds, 50):.1f}",
        f"{each.rate:.1f}",
        f"{min(each.rates):.1f}",
        _ms(each.moderate.percentile_ms(50)),
        _ms(each.moderate.percentile_ms(99)),
        f"{each.overload.per_second(200):.1f}",
        f"{each.overload.per_second(503):.1f}",
        str(each.overload.too_late),
        _ms(each.overload.percentile_ms(50, 503)),
        f"{each.resident_bytes / 2**20:.0f}",
        f"{each.start_seconds:.1f}",
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
