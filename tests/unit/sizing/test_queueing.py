"""Waiting times against closed forms: M/M/1, M/M/c, M/D/1, Pollaczek and Khinchine."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.queueing import Queue, QueueError, erlang_c
from sizing.service_times import ServiceTimes, ServiceTimesError

EXPONENTIAL = tuple(ms / 1000 for ms in ServiceTimes.exponential(100, points=1000).points)
"""Service times in seconds of mean 0.1."""


def erlang_c_by_its_sum(servers: int, offered: float) -> float:
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**busy / math.factorial(busy) for busy in range(servers)) + last)


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.5), (2, 1.5), (8, 7.2), (30, 12.0), (100, 95.0)])
def test_erlang_c_is_its_textbook_sum(servers: int, offered: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(erlang_c_by_its_sum(servers, offered), rel=1e-9)


def test_erlang_c_of_one_server_is_its_utilization() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)


def test_thousands_of_servers_neither_overflow_nor_vanish() -> None:
    assert erlang_c(5000, 4900.0) == pytest.approx(0.103, abs=0.02)
    assert erlang_c(5000, 10.0) == 0.0


def test_a_single_exponential_server_is_m_m_1() -> None:
    queue = Queue(servers=1, rate=8.0, mean_service=0.1)
    assert queue.mean_wait == pytest.approx(0.8 / (10 - 8))
    assert queue.mean_response == pytest.approx(1 / (10 - 8))
    assert queue.wait_exceeds(0.5) == pytest.approx(0.8 * math.exp(-(10 - 8) * 0.5))


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99])
def test_the_response_of_m_m_1_is_exponential(probability: float) -> None:
    queue = Queue(servers=1, rate=8.0, mean_service=0.1)
    exact = -math.log(1 - probability) / (10 - 8)
    assert queue.response_quantile(probability, EXPONENTIAL) == pytest.approx(exact, rel=0.01)


def test_a_constant_service_waits_half_as_long_as_an_exponential_one() -> None:
    by_chance = Queue(servers=1, rate=8.0, mean_service=0.1, scv=1)
    constant = Queue(servers=1, rate=8.0, mean_service=0.1, scv=0)
    assert constant.mean_wait == pytest.approx(by_chance.mean_wait / 2)
    assert constant.mean_wait == pytest.approx(0.8 * 0.1 / (2 * (1 - 0.8)))


def test_several_servers_are_m_m_c() -> None:
    queue = Queue(servers=4, rate=36.0, mean_service=0.1)
    assert queue.mean_wait == pytest.approx(erlang_c_by_its_sum(4, 3.6) / (40 - 36))


def test_without_load_the_response_is_the_service() -> None:
    queue = Queue(servers=1, rate=0.0, mean_service=0.1)
    assert queue.response_quantile(0.5, EXPONENTIAL) == pytest.approx(0.1 * math.log(2), rel=0.01)


def test_a_saturated_queue_waits_for_ever() -> None:
    queue = Queue(servers=2, rate=20.0, mean_service=0.1)
    assert queue.mean_wait == math.inf
    assert queue.response_quantile(0.5, EXPONENTIAL) == math.inf


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"servers": 0}, "servers is 0"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"mean_service": 0.0}, "mean_service is 0.0"),
        ({"scv": math.nan}, "scv is nan"),
    ],
)
def test_what_is_no_queue_is_refused_by_its_field(members: dict[str, Any], part: str) -> None:
    with pytest.raises(QueueError, match=part):
        Queue(**{"servers": 1, "rate": 1.0, "mean_service": 0.1} | members)


@settings(derandomize=True, max_examples=50)
@given(
    servers=st.integers(1, 40),
    rate=st.floats(0, 300),
    mean=st.floats(0.001, 0.5),
    scv=st.floats(0, 4),
)
def test_more_servers_are_never_slower_and_more_load_never_faster(
    servers: int, rate: float, mean: float, scv: float
) -> None:
    service = [mean]

    def p99(number: int, load: float) -> float:
        return Queue(servers=number, rate=load, mean_service=mean, scv=scv).response_quantile(0.99, service)

    assert p99(servers + 1, rate) <= p99(servers, rate) * (1 + 1e-6)
    assert p99(servers, rate * 1.1) >= p99(servers, rate) * (1 - 1e-6)


def test_two_quantiles_make_a_log_normal_distribution() -> None:
    times = ServiceTimes(((0.5, 100.0), (0.8413447460685429, 100.0 * math.e**0.5)))
    assert times.quantile(0.9772498680518208) == pytest.approx(100.0 * math.e)
    assert times.mean_ms == pytest.approx(100.0 * math.exp(0.5**2 / 2), rel=0.01)
    assert times.scv == pytest.approx(math.exp(0.5**2) - 1, rel=0.03)


def test_exponential_times_have_their_mean_and_variation() -> None:
    times = ServiceTimes.exponential(20)
    assert times.mean_ms == pytest.approx(20, rel=0.01)
    assert times.scv == pytest.approx(1, rel=0.05)


def test_a_single_quantile_is_a_constant() -> None:
    times = ServiceTimes.constant(7)
    assert [times.mean_ms, times.scv, times.quantile(0.999)] == pytest.approx([7, 0, 7])


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=300))
def test_samples_keep_their_extremes_and_their_mean(samples: list[float]) -> None:
    times = ServiceTimes.of_samples(samples)
    assert min(samples) <= times.quantiles_ms[0][1] <= times.quantiles_ms[-1][1] <= max(samples)
    assert times.quantile(0.3) <= times.quantile(0.7)


@pytest.mark.parametrize(
    ("quantiles", "part"),
    [
        ((), "is empty"),
        (((0.5, 2.0), (0.9, 1.0)), "both increase"),
        (((0.9, 1.0), (0.5, 2.0)), "both increase"),
        (((1.0, 1.0),), "probability 1.0"),
        (((0.5, 0.0),), "0.0 ms at 0.5"),
    ],
)
def test_what_is_no_distribution_is_refused(quantiles: tuple[tuple[float, float], ...], part: str) -> None:
    with pytest.raises(ServiceTimesError, match=part):
        ServiceTimes(quantiles)
