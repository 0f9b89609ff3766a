"""Memory of the account's processes during the soak, and whether it grows."""

import contextlib
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import httpx
import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.memory import tree_memory
from benchmarks.tabular.soak_account import Running

SETTLED_FROM = 0.2
"""Fraction of the soak after which memory must be flat; before that, pools and caches fill."""
_SECONDS_BETWEEN = 2.0
_FEWEST_SAMPLES = 3
ProcessName = Literal["container", "hosting", "emulator"]
PROCESSES: tuple[ProcessName, ...] = get_args(ProcessName)


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one time.

    requests: requests answered so far.
    """

    requests: int
    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True, slots=True)
class Trend:
    """Memory of a process over the soak.

    growth_bytes: growth of the least-squares line through RSS by answered requests, from the first sample after
        SETTLED_FROM of the soak to the last.
    """

    samples: int
    first: Sample
    settled: Sample
    last: Sample
    highest_rss_bytes: int
    growth_bytes: float
    growth_bytes_per_100k_requests: float


def trend(samples: Sequence[Sample], requests: int) -> Trend:
    """Return the trend over that many answered requests; with few settled samples, over all samples."""
    settled = [sample for sample in samples if sample.requests >= SETTLED_FROM * requests]
    if len(settled) < _FEWEST_SAMPLES:
        settled = list(samples)
    numbers = [sample.requests for sample in settled]
    slope = 0.0
    if numbers[0] != numbers[-1]:
        slope = statistics.linear_regression(numbers, [sample.rss_bytes for sample in settled]).slope
    return Trend(
        samples=len(settled),
        first=samples[0],
        settled=settled[0],
        last=samples[-1],
        highest_rss_bytes=max(sample.rss_bytes for sample in samples),
        growth_bytes=slope * (numbers[-1] - numbers[0]),
        growth_bytes_per_100k_requests=slope * 100_000,
    )


class Sampler:
    """Thread that reads the memory of all three processes every few seconds.

    running, answered: return the running processes, and the number of answered requests so far.

    If a process was restarted, the new one is read.
    """

    def __init__(self, running: Callable[[], Running], answered: Callable[[], int]) -> None:
        self._find, self._answered = running, answered
        self._running = running()
        self._ended = threading.Event()
        self.samples: dict[ProcessName, list[Sample]] = {name: [] for name in PROCESSES}

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample from before the block until after it; raises OSError or psutil.Error if nothing can be read."""
        self._sample()
        thread = threading.Thread(target=self._sample_forever, name="memory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
        self._try_to_sample()

    def _sample_forever(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            self._try_to_sample()

    def _try_to_sample(self) -> None:
        try:
            self._sample()
        except (psutil.Error, OSError):
            with contextlib.suppress(BenchmarkError, httpx.HTTPError, OSError, ValueError):
                self._running = self._find()

    def _sample(self) -> None:
        for name in PROCESSES:
            rss_bytes, pss_bytes = _read(name, getattr(self._running, name))
            self.samples[name].append(Sample(self._answered(), rss_bytes, pss_bytes))


def _read(name: ProcessName, pid: int) -> tuple[int, int]:
    if name == "hosting":
        # The container is a child of this process and is measured separately.
        alone = psutil.Process(pid).memory_full_info()
        return alone.rss, alone.pss
    tree = tree_memory(pid)
    return tree.rss_bytes, tree.pss_bytes
