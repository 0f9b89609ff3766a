"""Distribution of service times, defined by some of its quantiles."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

_NORMAL = NormalDist()
_POINTS = 1000


class ServiceTimesError(ValueError):
    """The quantiles are not a distribution; the message names the value and the fix."""


@dataclass(frozen=True)
class ServiceTimes:
    """Service times in milliseconds at increasing probabilities between 0 and 1. Raises ServiceTimesError.

    Between two quantiles, the logarithm of the time is linear in the normal score of the probability: a log-normal
    piece. Before the first and after the last quantile, the slope of the nearest pair continues. P50 and P90 alone
    therefore define a log-normal distribution, and a single quantile a constant time.
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
                    f"quantiles_ms has {fast} ms at {low} before {slow} ms at {high}: sort them so that both increase"
                )

    @classmethod
    def constant(cls, ms: float) -> "ServiceTimes":
        """Return a distribution with the same time for every request."""
        return cls(((0.5, ms),))

    @classmethod
    def exponential(cls, mean_ms: float, points: int = 200) -> "ServiceTimes":
        """Return an exponential distribution, represented by `points` quantiles."""
        shares = [(index + 0.5) / points for index in range(points)]
        return cls(tuple((share, -mean_ms * math.log1p(-share)) for share in shares))

    @classmethod
    def of_samples(cls, samples_ms: Sequence[float], points: int = 200) -> "ServiceTimes":
        """Return the distribution of measured times, by at most `points` quantiles; raises ServiceTimesError for none.

        The quantiles lie in the middle of equally likely parts of the sorted times.
        """
        ordered = sorted(samples_ms)
        if not ordered:
            raise ServiceTimesError("samples_ms is empty: give the measured times")
        count = min(points, len(ordered))
        ranks = [min(len(ordered) - 1, int((index + 0.5) / count * len(ordered))) for index in range(count)]
        return cls(tuple(((rank + 0.5) / len(ordered), ordered[rank]) for rank in dict.fromkeys(ranks)))

    def quantile(self, probability: float) -> float:
        """Return the time in milliseconds at a probability between 0 and 1."""
        known = self.quantiles_ms
        if len(known) == 1:
            return known[0][1]
        after = next((index for index, (share, _) in enumerate(known) if share >= probability), len(known) - 1)
        (low, fast), (high, slow) = known[max(0, after - 1)], known[max(1, after)]
        score, below, above = (_NORMAL.inv_cdf(each) for each in (probability, low, high))
        return math.exp(math.log(fast) + (math.log(slow) - math.log(fast)) * (score - below) / (above - below))

    @cached_property
    def points(self) -> tuple[float, ...]:
        """A thousand equally likely times in milliseconds, in increasing order."""
        return tuple(self.quantile((index + 0.5) / _POINTS) for index in range(_POINTS))

    @cached_property
    def mean_ms(self) -> float:
        """Mean time in milliseconds."""
        return math.fsum(self.points) / _POINTS

    @cached_property
    def scv(self) -> float:
        """Squared coefficient of variation, variance over squared mean: 0 for constant, 1 for exponential times."""
        return math.fsum((each - self.mean_ms) ** 2 for each in self.points) / _POINTS / self.mean_ms**2

    def stretched(self, factor: float) -> "ServiceTimes":
        """Return the distribution with every time multiplied by `factor`."""
        return ServiceTimes(tuple((share, ms * factor) for share, ms in self.quantiles_ms))
