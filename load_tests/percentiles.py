"""Percentiles with confidence intervals."""

import math
from statistics import NormalDist

from scipy.stats import binom

from load_tests.histogram import Latencies
from load_tests.result import Percentile, Samples

PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
CONFIDENCE = 0.95
_BEYOND = 10
_MLPERF_CONFIDENCE, _MLPERF_MULTIPLE = 0.99, 2**13


def interval_ranks(count: int, percent: float) -> tuple[int | None, int | None]:
    """Return the ranks, 1 to `count`, of the samples that enclose a percentile with at least 95 % probability.

    The number of samples below a quantile is binomial for every distribution (David and Nagaraja, Order Statistics,
    3rd ed., 7.1). A rank is None if even the first or last sample is not far enough out.
    """
    tail = (1 - CONFIDENCE) / 2
    low = int(binom.ppf(tail, count, percent / 100))
    high = int(binom.ppf(1 - tail, count, percent / 100)) + 1
    return (low if low >= 1 else None), (high if high <= count else None)


def needed(percent: float) -> int:
    """Return the number of samples that puts ten beyond the percentile, on its thinner side."""
    return math.ceil(_BEYOND / min(1 - percent / 100, percent / 100) - 1e-6)


def needed_mlperf(percent: float) -> int:
    """Return the number of samples that MLPerf Inference's rules require: 24,576 for P90, 270,336 for P99.

    It gives a margin of a twentieth of the distance to 100 at 99 % confidence, in the normal approximation, rounded up
    to a multiple of 8,192.
    """
    tail = 1 - percent / 100
    margin = tail / 20
    exact = NormalDist().inv_cdf((1 - _MLPERF_CONFIDENCE) / 2) ** 2 * (1 - tail) * tail / margin**2
    return math.ceil(exact / _MLPERF_MULTIPLE) * _MLPERF_MULTIPLE


def percentile_rank(count: int, percent: float) -> int:
    """Return a percentile's nearest rank: the smallest with at least that share of the samples at or below it."""
    return min(count, max(1, math.ceil(count * percent / 100 - 1e-9)))


def percentiles(latencies: Latencies, percents: tuple[float, ...] = PERCENTS) -> tuple[Percentile, ...]:
    """Return every percentile with its confidence interval and sample rating; empty without samples."""
    count = latencies.count
    if not count:
        return ()
    ranks = {percent: (percentile_rank(count, percent), *interval_ranks(count, percent)) for percent in percents}
    values = latencies.at_ranks_ms(rank for each in ranks.values() for rank in each if rank is not None)
    return tuple(
        Percentile(
            percent=percent,
            value_ms=values[rank],
            low_ms=None if low is None else values[low],
            high_ms=None if high is None else values[high],
            samples=_samples(count, percent, low, high),
            needed=needed(percent),
            needed_mlperf=needed_mlperf(percent),
        )
        for percent, (rank, low, high) in ranks.items()
    )


def _samples(count: int, percent: float, low: int | None, high: int | None) -> Samples:
    if count < needed(percent) or low is None or high is None:
        return "too_few"
    return "mlperf" if count >= needed_mlperf(percent) else "fair"
