"""Latencies in an HDR histogram, 1 microsecond to 10 minutes in three digits: small to send, exact to merge."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US = 1, 600_000_000
SERIES_DIGITS = 2
"""Significant digits for the latencies of each second of a test; few, because there are many seconds."""


class Latencies:
    """Latency histogram that can be merged and encoded; values outside the range count as the nearest bound.

    digits: significant digits kept of a latency, 1 to 5.
    """

    def __init__(self, digits: int = 3) -> None:
        self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, digits)

    @classmethod
    def decoded(cls, encoded: str | bytes) -> "Latencies":
        """Decode the result of `encode`; errors of the codec pass through for anything else."""
        latencies = cls()
        latencies._histogram = HdrHistogram.decode(encoded)
        return latencies

    @property
    def count(self) -> int:
        """Number of recorded latencies."""
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """Record one latency."""
        self._histogram.record_value(min(HIGHEST_US, max(LOWEST_US, round(seconds * 1e6))))

    def add(self, encoded: str | bytes) -> None:
        """Add an encoded histogram; both must keep the same number of digits."""
        self._histogram.decode_and_add(encoded)

    def merge(self, other: "Latencies") -> None:
        """Add another histogram; both must keep the same number of digits."""
        self._histogram.add(other._histogram)

    def encode(self) -> str:
        """Encode in HdrHistogram's compressed V2 format as base64, which its libraries in every language read."""
        return bytes(self._histogram.encode()).decode()

    def reset(self) -> None:
        """Discard all latencies."""
        self._histogram.reset()

    def at_ranks_ms(self, ranks: Iterable[int]) -> dict[int, float]:
        """Return the latency in milliseconds at each rank, 1 to `count` from the shortest."""
        wanted = sorted(set(ranks))
        latencies: dict[int, float] = {}
        passed = 0
        for item in self._histogram.get_recorded_iterator():
            passed += item.count_at_value_iterated_to
            while len(latencies) < len(wanted) and wanted[len(latencies)] <= passed:
                latencies[wanted[len(latencies)]] = item.value_iterated_to / 1000
            if len(latencies) == len(wanted):
                break
        return latencies

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds; 0 without any."""
        return float(self._histogram.get_mean_value()) / 1000 if self.count else 0.0

    @property
    def min_ms(self) -> float:
        """Shortest latency in milliseconds; 0 without any."""
        # The library's own minimum is 0 once an empty histogram has been added.
        return self.at_ranks_ms([1])[1] if self.count else 0.0

    @property
    def max_ms(self) -> float:
        """Longest latency in milliseconds; 0 without any."""
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0
