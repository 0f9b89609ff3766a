"""A group of NeuronCores that the models of one process take turns on."""

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")
_PR_SET_TIMERSLACK = 29
"""prctl(2): how much later than asked a thread's sleep may end, 50 microseconds unless told."""


class CoreGroup:
    """One lock for the group, and how long it was busy.

    cores: their numbers on the instance. clock, sleep: monotonic seconds, as those of the time module.
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
        """The cores as NEURON_RT_VISIBLE_CORES has them."""
        return str(self.cores[0]) if len(self.cores) == 1 else f"{self.cores[0]}-{self.cores[-1]}"

    @property
    def busy_seconds(self) -> float:
        """Time that the group has been running batches, since it was made."""
        began = self._began
        return self._busy + (self._clock() - began if began is not None else 0.0)

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Runs work that takes the group for as long as it lasts."""
        with self._turn:
            self._began = began = self._clock()
            try:
                return work()
            finally:
                self._began = None
                self._busy += self._clock() - began

    def occupy(self, seconds: float) -> None:
        """Takes the group for exactly so long without using the processor.

        Work that was handed over while the group was busy begins when the work before it ended on the device, however
        late the host noticed: sleeping too long makes the host late, never the device longer busy.
        """
        submitted = self._clock()
        with self._turn:
            end = self._free_at = max(submitted, self._free_at) + seconds
            while (left := end - self._clock()) > 0:
                self._sleep(left)
            self._busy += seconds


def sleep_precisely() -> None:
    """Lets the calling thread's sleeps end on time, as far as the kernel can; does nothing where it is not Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
