"""Measure loading, responses and latency, alternating between servers so machine drift affects all equally."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.recorded import percentile_ms
from benchmarks.tabular.client import MultiModelClient
from benchmarks.tabular.models import Models

TOLERANCE = 1e-6
WARM_UP = 6000
"""Requests to each server before latency counts, by which time Java has compiled the code that it runs."""
TURN = 200
"""Requests to one server before it is the next one's turn."""
LOAD_TURN = 4
"""Models loaded by one server before it is the next one's turn; the first in a turn still feels the other's work."""


@dataclass(frozen=True, slots=True)
class Times:
    """Durations of requests in seconds, in the order they were sent."""

    seconds: tuple[float, ...]

    def percentile_ms(self, percent: int) -> float:
        """Return a percentile, 1 to 99, in milliseconds (statistics.quantiles, inclusive method)."""
        return percentile_ms(self.seconds, percent)

    @property
    def longest_ms(self) -> float:
        """Longest duration in milliseconds."""
        return max(self.seconds) * 1000

    def worst_turn_ms(self) -> float:
        """Return the highest median of a turn in milliseconds, which shows how far the machine drifted."""
        turns = (self.seconds[start : start + TURN] for start in range(0, len(self.seconds), TURN))
        return max(map(statistics.median, turns)) * 1000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two servers' responses to the same rows.

    answers: number of responses.
    largest: largest difference between the two servers.
    largest_from_build: largest difference of either server from XGBoost's predictions during the build.
    """

    answers: int
    largest: float
    largest_from_build: float

    @property
    def equal(self) -> bool:
        """Whether every response is within TOLERANCE of the other server's and of the build's prediction."""
        return max(self.largest, self.largest_from_build) <= TOLERANCE


def load_all(clients: Sequence[MultiModelClient], models: Models, on_step: Callable[[], object]) -> list[Times]:
    """Load every model into every server, one at a time; raises BenchmarkError."""
    taken: list[list[float]] = [[] for _ in clients]
    for first in range(0, len(models.models), LOAD_TURN):
        for client, times in zip(clients, taken, strict=True):
            for model in models.models[first : first + LOAD_TURN]:
                started = time.perf_counter()
                client.load(model.name, model.folder)
                times.append(time.perf_counter() - started)
                on_step()
    return [Times(tuple(times)) for times in taken]


def compare(
    clients: tuple[MultiModelClient, MultiModelClient], models: Models, on_step: Callable[[], object]
) -> Agreement:
    """Send every model its own rows one at a time, and the rows of all states in one request.

    Raises BenchmarkError if a server does not respond with one number per row.
    """
    everything = "\n".join(models.rows).encode()
    count, between, from_build = 0, [0.0], [0.0]
    for model in models.models:
        for row, expected in zip(model.rows, model.expected, strict=True):
            one, other = (_scores(client.invoke(model.name, row.encode()), 1) for client in clients)
            between.append(_difference(one, other))
            from_build.extend(_difference(scores, [expected]) for scores in (one, other))
        one, other = (_scores(client.invoke(model.name, everything), len(models.rows)) for client in clients)
        between.append(_difference(one, other))
        count += len(model.rows) + len(models.rows)
        on_step()
    return Agreement(count, max(between), max(from_build))


def turns(requests: int) -> int:
    """Return the number of turns needed for that many requests."""
    return math.ceil(requests / TURN)


def invoke_in_turns(
    clients: Sequence[MultiModelClient], models: Models, requests: int, on_step: Callable[[], object]
) -> list[Times]:
    """Send each server `requests` single rows, rounded up to whole turns, cycling through all models.

    Every server gets the same rows in the same order. Raises BenchmarkError.
    """
    pairs = [
        (model.name, model.rows[index % len(model.rows)].encode())
        for index in range(max(len(model.rows) for model in models.models))
        for model in models.models
    ]
    sequences = [itertools.cycle(pairs) for _ in clients]
    taken: list[list[float]] = [[] for _ in clients]
    for _ in range(turns(requests)):
        for client, sequence, times in zip(clients, sequences, taken, strict=True):
            for name, row in itertools.islice(sequence, TURN):
                started = time.perf_counter()
                client.invoke(name, row)
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
