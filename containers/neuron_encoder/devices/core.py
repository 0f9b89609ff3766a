"""A group of NeuronCores, shared in turns by the models of one process."""

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")
_PR_SET_TIMERSLACK = 29
"""Option of prctl(2) for how late a thread's sleep may end; the default is 50 microseconds."""


class CoreGroup:
    """A group of cores with one lock and a record of its busy time.

    cores: numbers of the cores on the instance.
    clock, sleep: monotonic clock and sleep in seconds, like those of the time module.
    """

    def __init__(
        self,
        cores: tuple[int, ...],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cores = cores
        self._clock, self._sleep = clock, sleep
        self._turn = threading.Lock()
        self._free_at = 0.0
        self._busy = 0.0
        self._began: float | None = None

    @property
    def name(self) -> str:
        """Return the cores in the format of NEURON_RT_VISIBLE_CORES."""
        return str(self.cores[0]) if len(self.cores) == 1 else f"{self.cores[0]}-{self.cores[-1]}"

    @property
    def busy_seconds(self) -> float:
        """Return the seconds that the group has run batches since its creation."""
        began = self._began
        return self._busy + (self._clock() - began if began is not None else 0.0)

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Run work that holds the group until it returns."""
        with self._turn:
            self._began = began = self._clock()
            try:
                return work()
            finally:
                self._began = None
                self._busy += self._clock() - began

    def occupy(self, seconds: float) -> None:
        """Hold the group for exactly `seconds` without using the processor.

        Work submitted while the group is busy starts when the earlier work ends on the device, however late the host
        notices. So a sleep that ends late delays the host, but adds no busy time to the device.
        """
        submitted = self._clock()
        with self._turn:
            end = self._free_at = max(submitted, self._free_at) + seconds
            while (left := end - self._clock()) > 0:
                self._sleep(left)
            self._busy += seconds


def sleep_precisely() -> None:
    """Make the calling thread's sleeps end as precisely as the kernel can; a no-op except on Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
