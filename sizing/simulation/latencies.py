"""Latencies of a simulation, window by window, in bins of one percent."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_LOWEST_MS, _HIGHEST_MS, _WIDTH = 0.001, 1e7, 1.01
_BINS = math.ceil(math.log(_HIGHEST_MS / _LOWEST_MS) / math.log(_WIDTH)) + 1
_MIDDLES = _LOWEST_MS * _WIDTH ** (np.arange(_BINS) + 0.5)


class Latencies:
    """Counts requests by window and latency; a percentile is right within half a percent of itself."""

    def __init__(self, windows: int) -> None:
        self._counts: Floats = np.zeros((windows, _BINS), np.float64)

    def add(self, window: int, milliseconds: Floats, weights: Floats | None = None) -> None:
        """Latencies in ms of one window, each a request, or as many as its weight."""
        if milliseconds.size:
            scaled = np.log(np.clip(milliseconds, _LOWEST_MS, _HIGHEST_MS) / _LOWEST_MS) / math.log(_WIDTH)
            bins = scaled.astype(np.int64).ravel()
            self._counts[window] += np.bincount(bins, None if weights is None else weights.ravel(), minlength=_BINS)

    def percentile_ms(self, percent: float) -> float:
        """Of all windows together, in ms; not a number without requests."""
        return float(_quantiles(self._counts.sum(axis=0, keepdims=True), percent / 100)[0])

    def window_percentiles_ms(self, percent: float) -> Floats:
        """Of each window, in ms; not a number in those without requests."""
        return _quantiles(self._counts, percent / 100)


def _quantiles(counts: Floats, share: float) -> Floats:
    sums = counts.cumsum(axis=1)
    totals = sums[:, -1]
    found: Floats = _MIDDLES[np.minimum((sums < share * totals[:, None]).sum(axis=1), _BINS - 1)]
    return np.where(totals > 0, found, np.nan)
