"""Traffic traces: requests per second over time, generated or from a file."""

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sizing.text_files import TextFileError, read_text

Rates = npt.NDArray[np.float64]
_DAY = 86_400.0
_CHUNK_REQUESTS = 200_000.0
_MAX_SECONDS = 31 * 86_400


class TrafficError(ValueError):
    """A trace is invalid; the message names the field or line, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A traffic trace. Raises TrafficError for invalid rates.

    name: name for titles.
    rates: requests per second, one value for each second from 0.
    """

    name: str
    rates: Rates

    def __post_init__(self) -> None:
        if not 1 <= len(self.rates) <= _MAX_SECONDS:
            raise TrafficError(f"rates has {len(self.rates)} seconds: give 1 to {_MAX_SECONDS}, which is 31 days")
        if not (np.isfinite(self.rates).all() and (self.rates >= 0).all()):
            raise TrafficError(f"rates of {self.name} has a value that is negative or not finite: give rates from 0")

    @property
    def seconds(self) -> int:
        """Length of the trace in seconds."""
        return len(self.rates)

    @property
    def requests(self) -> float:
        """Expected number of requests."""
        return float(self.rates.sum())

    @property
    def peak(self) -> float:
        """Highest rate, in requests per second."""
        return float(self.rates.max())

    def arrivals(self, rng: np.random.Generator) -> Iterator[tuple[float, Rates]]:
        """Yield sorted arrival times of a Poisson process with these rates, as chunks of (end of chunk, times)."""
        size = max(1, int(_CHUNK_REQUESTS / max(1.0, self.peak)))
        for begin in range(0, self.seconds, size):
            rates = self.rates[begin : begin + size]
            counts = rng.poisson(rates)
            times = begin + np.repeat(np.arange(len(rates)), counts) + rng.random(int(counts.sum()))
            times.sort()
            yield float(begin + len(rates)), times


def constant(rate: float, seconds: int) -> Trace:
    """Return a trace with the same rate throughout."""
    return Trace("constant", np.full(seconds, _rate("rate", rate)))


def diurnal(low: float, peak: float, seconds: int, peak_hour: float = 15.0) -> Trace:
    """Return a daily sine wave, from `low` at night to `peak` at peak_hour, that starts at midnight and repeats."""
    middle, swing = (_rate("peak", peak) + _rate("low", low)) / 2, (peak - low) / 2
    phase = 2 * math.pi * (np.arange(seconds) / _DAY - peak_hour / 24)
    return Trace("diurnal", middle + swing * np.cos(phase))


def flash_crowd(
    low: float, peak: float, seconds: int, *, at: float | None = None, rise: float = 60.0, fall: float = 1800.0
) -> Trace:
    """Return `low` until `at`, a linear rise to `peak` in `rise` seconds, then a decay with time constant `fall`.

    at: seconds from the start; by default, a quarter of the trace.
    """
    begin = seconds / 4 if at is None else at
    since = np.arange(seconds) - begin
    falling = np.exp(-np.maximum(0.0, since - rise) / max(fall, 1e-9))
    shape = np.where(since < 0, 0.0, np.where(since < rise, since / max(rise, 1e-9), falling))
    return Trace("flash crowd", _rate("low", low) + (_rate("peak", peak) - low) * shape)


def failover(low: float, peak: float, seconds: int, *, at: float | None = None, lasts: float | None = None) -> Trace:
    """Return `low`, then `peak` while a neighboring region has failed and its traffic arrives here, then `low` again.

    at, lasts: start and duration in seconds; by default, a quarter and a third of the trace.
    """
    begin = seconds / 4 if at is None else at
    span = seconds / 3 if lasts is None else lasts
    since = np.arange(seconds) - begin
    return Trace("regional failover", np.where((since >= 0) & (since < span), _rate("peak", peak), _rate("low", low)))


GENERATORS: dict[str, Callable[[float, float, int], Trace]] = {
    "constant": lambda _, peak, seconds: constant(peak, seconds),
    "diurnal": diurnal,
    "flash_crowd": flash_crowd,
    "failover": failover,
}
"""Generators of traffic by name; arguments are the lowest rate, the highest rate and the seconds."""


def read_trace(path: Path) -> Trace:
    """Read a CSV file with the columns seconds,rate; each rate holds until the next row's second.

    The last row marks the end of the trace, and its rate counts for one second. Raises TrafficError.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path)), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if header != ["seconds", "rate"]:
            found = ", ".join(header) or "nothing"
            raise TrafficError(f"{path.name}, line 1: the header is {found[:80]}: write seconds,rate")
        rows = [_row(row, f"{path.name}, line {reader.line_num}") for row in reader if row]
    except TextFileError as error:
        raise TrafficError(str(error)) from error
    except (OSError, csv.Error) as error:
        raise TrafficError(f"{path.name} cannot be read as CSV: {error}") from error
    if not rows or rows[0][0] != 0:
        raise TrafficError(f"{path.name}: the first row must be for second 0")
    for (before, _), (after, _) in itertools.pairwise(rows):
        if after <= before:
            raise TrafficError(f"{path.name}: second {after} follows {before}: sort the rows by second")
    if rows[-1][0] >= _MAX_SECONDS:
        raise TrafficError(f"{path.name}: second {rows[-1][0]} is beyond 31 days: cut the trace")
    spans = [after - before for (before, _), (after, _) in itertools.pairwise(rows)]
    return Trace(path.stem, np.repeat([rate for _, rate in rows], [*spans, 1]))


def _row(row: list[str], where: str) -> tuple[int, float]:
    try:
        seconds, rate = row
        parsed = int(seconds), float(rate)
    except ValueError:
        raise TrafficError(f"{where}: the row is {','.join(row)[:80]!r}: write a whole second and a rate") from None
    if not (parsed[1] >= 0 and math.isfinite(parsed[1])):
        raise TrafficError(f"{where}: rate is {rate.strip()[:80]}: give requests per second, from 0")
    return parsed


def _rate(field: str, value: float) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise TrafficError(f"{field} is {value}: give requests per second, from 0")
    return value
