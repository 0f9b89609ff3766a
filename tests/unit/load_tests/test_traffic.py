"""Traffic of many clients counts what was answered, and an open loop counts waiting as latency."""

import threading
import time

import pytest
from botocore.exceptions import ClientError

from load_tests.closed_loop import Request
from load_tests.traffic import Traffic, arrivals, closed_loop, joined, open_loop

REQUESTS = [Request(body=b"x", content_type="text/plain")]


class FakeServer:
    """Answers one request at a time, each after `seconds`; refuses every `refuse`th."""

    def __init__(self, seconds: float, refuse: int = 0) -> None:
        self._seconds, self._refuse, self._count = seconds, refuse, 0
        self._busy, self._lock = threading.Lock(), threading.Lock()

    def __call__(self, request: Request) -> bytes:
        del request
        with self._lock:
            self._count += 1
            refused = self._refuse and self._count % self._refuse == 0
        with self._busy:
            time.sleep(self._seconds)
        if refused:
            raise ClientError({"Error": {"Code": "ModelError", "Message": "no"}}, "InvokeEndpoint")
        return b"y"


def test_a_closed_loop_counts_answers_and_refusals_apart() -> None:
    found = closed_loop(FakeServer(0.001, refuse=3), REQUESTS, clients=3, seconds=0.3)
    assert found.failed > 0
    assert len(found.latencies) == pytest.approx(2 * found.failed, abs=3)
    assert found.seconds >= 0.3


def test_in_an_open_loop_a_server_that_falls_behind_shows_it() -> None:
    # 100 requests a second for half a second to a server that answers 25: the last waits for more than a second.
    found = open_loop(FakeServer(0.04), REQUESTS, rate=100, seconds=0.5, seed=1, most_in_flight=2)
    assert len(found.latencies) == len(arrivals(100, 0.5, 1))
    assert max(found.latencies) > 10 * 0.04


def test_arrivals_are_the_same_for_the_same_seed_and_average_the_rate() -> None:
    assert arrivals(50, 100, 3) == arrivals(50, 100, 3)
    assert arrivals(50, 100, 3) != arrivals(50, 100, 4)
    # The standard deviation of a Poisson count of 5000 is 71.
    assert len(arrivals(50, 100, 3)) == pytest.approx(5000, abs=300)
    assert max(arrivals(50, 100, 3)) < 100


def test_stretches_join() -> None:
    both = joined([Traffic((0.1, 0.2), 2.0, 1), Traffic((0.3, 0.4), 2.0, 0)])
    assert (both.requests_per_second, both.failed) == (1.0, 1)
    assert both.percentile_ms(50) == pytest.approx(250)


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert Traffic((), 1.0, 0).percentile_ms(99) != Traffic((), 1.0, 0).percentile_ms(99)
