"""What is measured: loading, answers and latency, in turns between servers so that a drifting machine favours none."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.recorded import percentile_ms
from benchmarks.tabular.models import Models
from benchmarks.tabular.servers import Server

TOLERANCE = 1e-6
WARM_UP = 6000
"""Requests to each server before latency counts: after so many, Java has compiled what it runs."""
TURN = 200
"""Requests that a server answers before it is the next one's turn."""
LOAD_TURN = 4
"""Models that a server loads before it is the next one's turn: the first in a turn still feels the other's work."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that requests took, in the order they were sent."""

    seconds: tuple[float, ...]

    def percentile_ms(self, percent: int) -> float:
        """A percentile in milliseconds, 1 to 99, by statistics.quantiles' inclusive method."""
        return percentile_ms(self.seconds, percent)

    @property
    def longest_ms(self) -> float:
        """The longest in milliseconds."""
        return max(self.seconds) * 1000

    def worst_turn_ms(self) -> float:
        """The highest median of a turn, in milliseconds: how far the machine drifted."""
        turns = (self.seconds[start : start + TURN] for start in range(0, len(self.seconds), TURN))
        return max(map(statistics.median, turns)) * 1000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Answers of two servers to the same rows: how many, and the largest difference between them.

    largest_from_build: the largest difference of either from the answers that XGBoost gave when the models were built.
    """

    answers: int
    largest: float
    largest_from_build: float

    @property
    def equal(self) -> bool:
        """Whether every answer is within TOLERANCE of the other server's and of the build's."""
        return max(self.largest, self.largest_from_build) <= TOLERANCE


def load_all(servers: Sequence[Server], models: Models, on_step: Callable[[], object]) -> list[Times]:
    """Loads every model into every server, one at a time; raises BenchmarkError."""
    taken: list[list[float]] = [[] for _ in servers]
    for first in range(0, len(models.models), LOAD_TURN):
        for server, times in zip(servers, taken, strict=True):
            for model in models.models[first : first + LOAD_TURN]:
                started = time.perf_counter()
                server.load(model.name, model.folder)
                times.append(time.perf_counter() - started)
                on_step()
    return [Times(tuple(times)) for times in taken]


def compare(servers: tuple[Server, Server], models: Models, on_step: Callable[[], object]) -> Agreement:
    """Sends every model its own rows one at a time, and the rows of all states in one request.

    Raises BenchmarkError where a server does not answer one number for a row.
    """
    everything = "\n".join(models.rows).encode()
    count, between, from_build = 0, [0.0], [0.0]
    for model in models.models:
        for row, expected in zip(model.rows, model.expected, strict=True):
            one, other = (_scores(server.invoke(model.name, row.encode()), 1) for server in servers)
            between.append(_difference(one, other))
            from_build.extend(_difference(answer, [expected]) for answer in (one, other))
        one, other = (_scores(server.invoke(model.name, everything), len(models.rows)) for server in servers)
        between.append(_difference(one, other))
        count += len(model.rows) + len(models.rows)
        on_step()
    return Agreement(count, max(between), max(from_build))


def turns(requests: int) -> int:
    """Turns that hold so many requests."""
    return math.ceil(requests / TURN)


def invoke_in_turns(
    servers: Sequence[Server], models: Models, requests: int, on_step: Callable[[], object]
) -> list[Times]:
    """Sends each server `requests` single rows, rounded up to whole turns, all models after one another.

    Every server gets the same rows in the same order. Raises BenchmarkError.
    """
    pairs = [
        (model.name, model.rows[index % len(model.rows)].encode())
        for index in range(max(len(model.rows) for model in models.models))
        for model in models.models
    ]
    feeds = [itertools.cycle(pairs) for _ in servers]
    taken: list[list[float]] = [[] for _ in servers]
    for _ in range(turns(requests)):
        for server, feed, times in zip(servers, feeds, taken, strict=True):
            for name, row in itertools.islice(feed, TURN):
                started = time.perf_counter()
                server.invoke(name, row)
                times.append(time.perf_counter() - started)
        on_step()
    return [Times(tuple(times)) for times in taken]


def _scores(answer: bytes, count: int) -> list[float]:
    try:
        scores = [float(score) for score in answer.decode().split(",")]
    except ValueError as error:
        raise BenchmarkError(f"an answer is no comma-joined numbers: {answer[:100]!r}") from error
    if len(scores) != count:
        raise BenchmarkError(f"an answer has {len(scores)} scores for {count} rows")
    return scores


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return math.inf if any(map(math.isnan, differences)) else max(differences)
