"""A distribution of service times, known by some of its quantiles."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

_NORMAL = NormalDist()
_POINTS = 1000


class ServiceTimesError(ValueError):
    """The quantiles are no distribution; the message names the value and the fix."""


@dataclass(frozen=True)
class ServiceTimes:
    """Times in ms at rising probabilities between 0 and 1.

    Between two quantiles, and beyond the first and the last with the nearest pair's slope, the logarithm of the time is
    linear in the normal score of the probability: a log-normal piece, so that P50 and P90 alone make a log-normal
    distribution. A single quantile makes the time constant. Raises ServiceTimesError.
    """

    quantiles_ms: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.quantiles_ms:
            raise ServiceTimesError("quantiles_ms is empty: give at least one [probability, ms]")
        for probability, ms in self.quantiles_ms:
            if not 0 < probability < 1:
                raise ServiceTimesError(f"quantiles_ms has the probability {probability}: give one between 0 and 1")
            if not (ms > 0 and math.isfinite(ms)):
                raise ServiceTimesError(f"quantiles_ms has {ms} ms at {probability}: give a time above 0")
        for (low, fast), (high, slow) in itertools.pairwise(self.quantiles_ms):
            if not (low < high and fast <= slow):
                raise ServiceTimesError(
                    f"quantiles_ms has {fast} ms at {low} before {slow} ms at {high}: order them, both rising"
                )

    @classmethod
    def constant(cls, ms: float) -> "ServiceTimes":
        """The same time for every request."""
        return cls(((0.5, ms),))

    @classmethod
    def exponential(cls, mean_ms: float, points: int = 200) -> "ServiceTimes":
        """Exponential times, by that many quantiles."""
        shares = [(index + 0.5) / points for index in range(points)]
        return cls(tuple((share, -mean_ms * math.log1p(-share)) for share in shares))

    @classmethod
    def of_samples(cls, samples_ms: Sequence[float], points: int = 200) -> "ServiceTimes":
        """What was measured, by at most that many quantiles and the extremes; raises ServiceTimesError for none."""
        ordered = sorted(samples_ms)
        if not ordered:
            raise ServiceTimesError("samples_ms is empty: give the times that were measured")
        count = min(points, len(ordered))
        ranks = [min(len(ordered) - 1, int((index + 0.5) / count * len(ordered))) for index in range(count)]
        return cls(tuple(((rank + 0.5) / len(ordered), ordered[rank]) for rank in dict.fromkeys(ranks)))

    def quantile(self, probability: float) -> float:
        """The time in ms at a probability between 0 and 1."""
        known = self.quantiles_ms
        if len(known) == 1:
            return known[0][1]
        after = next((index for index, (share, _) in enumerate(known) if share >= probability), len(known) - 1)
        (low, fast), (high, slow) = known[max(0, after - 1)], known[max(1, after)]
        score, below, above = (_NORMAL.inv_cdf(each) for each in (probability, low, high))
        return math.exp(math.log(fast) + (math.log(slow) - math.log(fast)) * (score - below) / (above - below))

    @cached_property
    def points(self) -> tuple[float, ...]:
        """A thousand times in ms that are equally likely, rising."""
        return tuple(self.quantile((index + 0.5) / _POINTS) for index in range(_POINTS))

    @cached_property
    def mean_ms(self) -> float:
        """Mean time in ms."""
        return math.fsum(self.points) / _POINTS

    @cached_property
    def scv(self) -> float:
        """Variance over squared mean: 0 for a constant, 1 for exponential times."""
        return math.fsum((each - self.mean_ms) ** 2 for each in self.points) / _POINTS / self.mean_ms**2

    def stretched(self, factor: float) -> "ServiceTimes":
        """Every time multiplied."""
        return ServiceTimes(tuple((share, ms * factor) for share, ms in self.quantiles_ms))
