"""Latencies of a simulation, per time window, in bins with a width of one percent."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_LOWEST_MS, _HIGHEST_MS, _WIDTH = 0.001, 1e7, 1.01
_BINS = math.ceil(math.log(_HIGHEST_MS / _LOWEST_MS) / math.log(_WIDTH)) + 1
_MIDDLES = _LOWEST_MS * _WIDTH ** (np.arange(_BINS) + 0.5)


class Latencies:
    """Histogram of latencies per window; percentiles are accurate to half a percent."""

    def __init__(self, windows: int) -> None:
        self._counts: Floats = np.zeros((windows, _BINS), np.float64)

    def add(self, window: int, milliseconds: Floats, weights: Floats | None = None) -> None:
        """Add latencies in milliseconds to a window, each counted once or by its weight."""
        if milliseconds.size:
            scaled = np.log(np.clip(milliseconds, _LOWEST_MS, _HIGHEST_MS) / _LOWEST_MS) / math.log(_WIDTH)
            bins = scaled.astype(np.int64).ravel()
            self._counts[window] += np.bincount(bins, None if weights is None else weights.ravel(), minlength=_BINS)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile over all windows, in milliseconds; NaN without requests."""
        return float(_quantiles(self._counts.sum(axis=0, keepdims=True), percent / 100)[0])

    def window_percentiles_ms(self, percent: float) -> Floats:
        """Return a percentile of each window, in milliseconds; NaN for windows without requests."""
        return _quantiles(self._counts, percent / 100)


def _quantiles(counts: Floats, share: float) -> Floats:
    sums = counts.cumsum(axis=1)
    totals = sums[:, -1]
    quantiles: Floats = _MIDDLES[np.minimum((sums < share * totals[:, None]).sum(axis=1), _BINS - 1)]
    return np.where(totals > 0, quantiles, np.nan)
