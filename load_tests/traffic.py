"""Traffic from several clients at once: a closed loop, and an open loop at a fixed rate."""

import http.client
import itertools
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from load_tests.closed_loop import Request

Send = Callable[[Request], object]
"""Callable that sends a request and returns once it is answered; it may be called from several threads."""
FAILURES = (ClientError, BotoCoreError, OSError, http.client.HTTPException)
"""Exceptions from Send that count as a failed request, whether refused or unanswered."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic as the clients saw it.

    latencies: of the answered requests, in seconds; in an open loop, counted from the scheduled time.
    seconds: time from the first request to the last response.
    failed: number of requests that were refused or not answered.
    """

    latencies: tuple[float, ...]
    seconds: float
    failed: int

    @property
    def requests_per_second(self) -> float:
        """Throughput: answered requests over the total time."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """Return a latency percentile, 1 to 99, in ms (statistics.quantiles, inclusive); NaN below two requests."""
        if len(self.latencies) < 2:
            return float("nan")
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1000


def joined(parts: Sequence[Traffic]) -> Traffic:
    """Combine several stretches of traffic into one."""
    return Traffic(
        tuple(itertools.chain.from_iterable(part.latencies for part in parts)),
        sum(part.seconds for part in parts),
        sum(part.failed for part in parts),
    )


def closed_loop(send: Send, requests: Sequence[Request], *, clients: int, seconds: float) -> Traffic:
    """Run clients for `seconds`; each sends its next request once its previous one is answered."""
    feed = _Feed(requests)
    log = _Log()
    began = time.perf_counter()

    def run() -> None:
        while time.perf_counter() - began < seconds:
            log.timed(time.perf_counter(), lambda: send(feed.next()))

    _run_threads([run] * clients)
    return log.traffic(time.perf_counter() - began)


def open_loop(
    send: Send,
    requests: Sequence[Request],
    *,
    rate: float,
    seconds: float,
    seed: int,
    most_in_flight: int = 64,
) -> Traffic:
    """Send requests as a Poisson process of `rate` per second, whether or not earlier ones are answered.

    Latency counts from the scheduled time, so a server that falls behind cannot hide it: waiting for one of the
    `most_in_flight` senders is waiting for the server. Equal seeds give equal schedules.
    """
    times = arrivals(rate, seconds, seed)
    feed = _Feed(requests)
    log = _Log()
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    began = time.perf_counter()

    def schedule() -> None:
        for moment in times:
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            due.put(began + moment)
        for _ in range(most_in_flight):
            due.put(None)

    def work() -> None:
        while (scheduled := due.get()) is not None:
            log.timed(scheduled, lambda: send(feed.next()))

    _run_threads([schedule, *[work] * most_in_flight])
    return log.traffic(time.perf_counter() - began)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return the event times of a Poisson process of `rate` per second, in seconds from the start; at least one."""
    source = random.Random(seed)
    times = [0.0]
    while (following := times[-1] + source.expovariate(rate)) < seconds:
        times.append(following)
    return times


class _Feed:
    """Thread-safe source that repeats the requests in order."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = itertools.cycle(requests)
        self._lock = threading.Lock()

    def next(self) -> Request:
        with self._lock:
            return next(self._requests)


class _Log:
    def __init__(self) -> None:
        self._latencies: list[float] = []
        self._failed = 0
        self._lock = threading.Lock()

    def timed(self, since: float, send: Callable[[], object]) -> None:
        try:
            send()
        except FAILURES:
            with self._lock:
                self._failed += 1
            return
        latency = time.perf_counter() - since
        with self._lock:
            self._latencies.append(latency)

    def traffic(self, seconds: float) -> Traffic:
        return Traffic(tuple(self._latencies), seconds, self._failed)


def _run_threads(work: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
