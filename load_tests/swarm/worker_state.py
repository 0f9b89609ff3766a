"""State that the users of one Locust worker share."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import gevent
import psutil

from load_tests.closed_loop import Request
from load_tests.plan import Place, Plan, share
from load_tests.recorder import Recorder
from load_tests.swarm.senders import Sender, SendFailedError

MONITOR_SECONDS = 0.05
_AFTER_FAILURE_SECONDS = 0.05
"""Pause after a failed request: refusals return at once, and retrying them in a tight loop would saturate the CPU."""


@dataclass(slots=True)
class Outcome:
    """One request: the name of its place, seconds, bytes of the response, and the error if it failed."""

    name: str
    seconds: float
    size: int
    failure: SendFailedError | None


@dataclass(slots=True)
class WorkerState:
    """A worker's plan, payloads, client and counters.

    number: index of this worker, from 0. closing: whether users must end. quota: measured requests left to send; None
    for no limit.
    """

    plan: Plan
    requests: Sequence[Request]
    sender: Sender
    recorder: Recorder
    number: int = 0
    closing: bool = False
    in_flight: int = 0
    quota: int | None = None
    source: random.Random = field(default_factory=random.Random)
    _payloads: "itertools.cycle[Request]" = field(init=False)
    _taken: set[int] = field(default_factory=set)

    def start(self, number: int) -> None:
        """Start the test's clock as worker `number`, which seeds its random generator."""
        self.number = number
        self.source = random.Random(f"{self.plan.seed}/{number}")
        # Workers start at different payloads; otherwise all would send the same one at the same time.
        offset = number * len(self.requests) // self.plan.workers
        self._payloads = itertools.cycle([*self.requests[offset:], *self.requests[:offset]])
        if self.plan.requests is not None:
            self.quota = share(self.plan.requests, number, self.plan.workers)
        self.recorder.start()

    def take_slot(self) -> int:
        """Return the lowest number that no user of this worker has."""
        free = next(number for number in itertools.count() if number not in self._taken)
        self._taken.add(free)
        return free

    def release_slot(self, slot: int) -> None:
        """Release a number."""
        self._taken.discard(slot)

    def place_of(self, slot: int) -> Place:
        """Return where a user sends its requests: the users of all workers are spread evenly over the places."""
        return self.plan.places[(slot * self.plan.workers + self.number) % len(self.plan.places)]

    def send(self, place: Place, began: float) -> Outcome:
        """Send the next request and record it; `began` is when it started, or was scheduled to start."""
        request = next(self._payloads)
        recorder = self.recorder
        recorder.sent(recorder.now if self.plan.mode == "open" else began)
        self.in_flight += 1
        try:
            size = self.sender.send(request, place)
        except SendFailedError as failure:
            return Outcome(place.name, recorder.failed(place.name, str(failure), began), 0, failure)
        finally:
            self.in_flight -= 1
        return Outcome(place.name, recorder.answered(place.name, began), size, None)

    def may_send(self, moment: float) -> bool:
        """Return whether a request may be sent, and take it from the quota if the moment is measured."""
        if self.quota is None or not self.recorder.measured(moment):
            return True
        if self.quota == 0:
            return False
        self.quota -= 1
        return True

    def pause(self, failed: bool) -> float:
        """Return the seconds until a user's next request."""
        seconds = self.source.uniform(*self.plan.pause)
        return max(seconds, _AFTER_FAILURE_SECONDS) if failed else seconds

    def monitor(self) -> None:
        """Record the worker's event loop lag, CPU utilization and requests in flight until the end."""
        process = psutil.Process()
        process.cpu_percent()
        since = self.recorder.now
        while True:
            before = self.recorder.now
            gevent.sleep(MONITOR_SECONDS)
            now = self.recorder.now
            self.recorder.looked(self.in_flight, now - before - MONITOR_SECONDS)
            if now - since >= 1:
                since = now
                self.recorder.processor(process.cpu_percent() / 100)
