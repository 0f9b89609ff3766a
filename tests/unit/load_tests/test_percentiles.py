"""Percentiles come with an interval that holds them, and say when there are too few samples."""

import random

import pytest

from load_tests.histogram import HIGHEST_US, Latencies
from load_tests.percentiles import interval_ranks, needed, needed_mlperf, percentile_rank, percentiles
from load_tests.result import Percentile


def latencies(seconds: list[float]) -> Latencies:
    made = Latencies()
    for each in seconds:
        made.record(each)
    return made


def test_a_latency_keeps_three_digits_and_stays_within_the_range() -> None:
    found = latencies([0.0, 0.0012345, 5000.0]).at_ranks_ms([1, 2, 3])
    assert found[1] == pytest.approx(0.001)
    assert found[2] == pytest.approx(1.2345, rel=1e-3)
    assert found[3] == pytest.approx(HIGHEST_US / 1000, rel=1e-3)


def test_histograms_of_many_workers_join_to_that_of_all_requests() -> None:
    source = random.Random(3)
    parts = [[source.expovariate(100) for _ in range(1000)] for _ in range(3)]
    joined = Latencies()
    for part in parts:
        joined.add(latencies(part).encode())
    whole = latencies([each for part in parts for each in part])
    assert joined.count == 3000
    assert percentiles(joined) == percentiles(whole)
    assert Latencies.decoded(joined.encode()).encode() == joined.encode()


def test_ranks_are_read_from_the_histogram_as_from_the_sorted_samples() -> None:
    source = random.Random(4)
    samples = sorted(source.lognormvariate(-4, 1) for _ in range(2000))
    found = latencies(samples).at_ranks_ms([1, 17, 1000, 1999, 2000])
    for rank, value in found.items():
        assert value == pytest.approx(samples[rank - 1] * 1000, rel=2e-3, abs=1e-3)


def test_nothing_has_no_percentile() -> None:
    assert percentiles(Latencies()) == ()
    assert Latencies().at_ranks_ms([1]) == {}


def test_the_percentiles_rank_is_the_nearest() -> None:
    assert [percentile_rank(count, 99) for count in (1, 99, 100, 101, 1000)] == [1, 99, 99, 100, 990]


def test_the_interval_of_the_median_of_ten_is_that_of_the_tables() -> None:
    # The sign test's: the second and ninth of ten enclose the median with 97.9 %, third and eighth with 89.1 % only.
    assert interval_ranks(10, 50) == (2, 9)


def test_there_is_no_upper_bound_where_even_the_longest_is_not_far_enough_out() -> None:
    # 1 - 0.99 ** 100 = 63 %: the longest of a hundred is beyond P99 too seldom.
    assert interval_ranks(100, 99)[1] is None
    assert interval_ranks(5, 50) == (None, None)


@pytest.mark.parametrize(("count", "percent"), [(60, 50.0), (400, 90.0), (1500, 99.0)])
def test_the_interval_holds_the_percentile_in_95_of_100_repetitions(count: int, percent: float) -> None:
    source = random.Random(5)
    low, high = interval_ranks(count, percent)
    assert low is not None
    assert high is not None
    held = 0
    for _ in range(400):
        # Of a uniform distribution the percentile itself is known.
        samples = sorted(source.random() for _ in range(count))
        held += samples[low - 1] <= percent / 100 <= samples[high - 1]
    # Three standard deviations of 400 draws below 95 %.
    assert held / 400 >= 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5


def test_mlperfs_counts_are_those_of_its_rules() -> None:
    assert (needed_mlperf(90), needed_mlperf(99)) == (24_576, 270_336)


def test_ten_samples_beyond_a_percentile_are_enough_to_say_it() -> None:
    assert [needed(percent) for percent in (50, 90, 99, 99.9)] == [20, 100, 1000, 10_000]


def flagged(count: int) -> dict[float, Percentile]:
    return {each.percent: each for each in percentiles(latencies([0.01 + 1e-5 * number for number in range(count)]))}


def test_a_percentile_of_too_few_samples_is_flagged() -> None:
    assert (flagged(999)[99.0].samples, flagged(1000)[99.0].samples) == ("too_few", "fair")
    assert flagged(5)[50.0].samples == "too_few"
    assert flagged(8192)[50.0].samples == "mlperf"
