"""Latencies in an HDR histogram: 1 microsecond to 10 minutes in three digits, small to send and exact to merge."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US = 1, 600_000_000
SERIES_DIGITS = 2
"""Digits of the latencies of each second of a test, of which there are many."""


class Latencies:
    """Latencies of any number, merged and encoded; a latency outside the range counts as its nearer end.

    digits: significant ones that are kept of a latency, 1 to 5.
    """

    def __init__(self, digits: int = 3) -> None:
        self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, digits)

    @classmethod
    def decoded(cls, encoded: str | bytes) -> "Latencies":
        """From `encode`; errors of the codec pass through for anything else."""
        made = cls()
        made._histogram = HdrHistogram.decode(encoded)
        return made

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """Adds one."""
        self._histogram.record_value(min(HIGHEST_US, max(LOWEST_US, round(seconds * 1e6))))

    def add(self, encoded: str | bytes) -> None:
        """Adds what another encoded; both must keep as many digits."""
        self._histogram.decode_and_add(encoded)

    def merge(self, other: "Latencies") -> None:
        """Adds another's; both must keep as many digits."""
        self._histogram.add(other._histogram)

    def encode(self) -> str:
        """HdrHistogram's compressed V2 format in base64, which its libraries in every language read."""
        return bytes(self._histogram.encode()).decode()

    def reset(self) -> None:
        """Forgets all."""
        self._histogram.reset()

    def at_ranks_ms(self, ranks: Iterable[int]) -> dict[int, float]:
        """The latency at each rank, 1 to `count` from the shortest, in milliseconds."""
        wanted = sorted(set(ranks))
        found: dict[int, float] = {}
        passed = 0
        for item in self._histogram.get_recorded_iterator():
            passed += item.count_at_value_iterated_to
            while len(found) < len(wanted) and wanted[len(found)] <= passed:
                found[wanted[len(found)]] = item.value_iterated_to / 1000
            if len(found) == len(wanted):
                break
        return found

    @property
    def mean_ms(self) -> float:
        """Mean in milliseconds; 0 without any."""
        return float(self._histogram.get_mean_value()) / 1000 if self.count else 0.0

    @property
    def min_ms(self) -> float:
        """The shortest in milliseconds; 0 without any."""
        # The library's own is 0 once an empty histogram was added.
        return self.at_ranks_ms([1])[1] if self.count else 0.0

    @property
    def max_ms(self) -> float:
        """The longest in milliseconds; 0 without any."""
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0
