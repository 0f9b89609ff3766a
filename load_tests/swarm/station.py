"""What the users of one worker share."""

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

LOOK_SECONDS = 0.05
_AFTER_FAILURE_SECONDS = 0.05
"""A user's rest after a failure, so that refusals, which take no time, do not take the whole processor."""


@dataclass(slots=True)
class Outcome:
    """One request: name, seconds, bytes of the answer, and the failure if it was one."""

    name: str
    seconds: float
    size: int
    failure: SendFailedError | None


@dataclass(slots=True)
class Station:
    """A worker's plan, requests and client; what it counts, and whether its users shall end.

    number: of this worker, from 0. quota: measured requests that are left to send; None without a bound.
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
    _feed: "itertools.cycle[Request]" = field(init=False)
    _taken: set[int] = field(default_factory=set)

    def begin(self, number: int) -> None:
        """Starts the test's clock as the worker of that number, whose draws are its own."""
        self.number = number
        self.source = random.Random(f"{self.plan.seed}/{number}")
        # Every worker begins elsewhere, or all would ask for the same at the same time.
        offset = number * len(self.requests) // self.plan.workers
        self._feed = itertools.cycle([*self.requests[offset:], *self.requests[:offset]])
        if self.plan.requests is not None:
            self.quota = share(self.plan.requests, number, self.plan.workers)
        self.recorder.start()

    def seat(self) -> int:
        """The lowest number that no user of this worker has."""
        free = next(number for number in itertools.count() if number not in self._taken)
        self._taken.add(free)
        return free

    def leave(self, seat: int) -> None:
        """Gives a number back."""
        self._taken.discard(seat)

    def place_of(self, seat: int) -> Place:
        """Where a user sends: users of all workers are spread evenly, and stay where they are."""
        return self.plan.places[(seat * self.plan.workers + self.number) % len(self.plan.places)]

    def ask(self, place: Place, began: float) -> Outcome:
        """Sends the next request and records it with the time that it began, or was due, at."""
        request = next(self._feed)
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
        """Takes one from the quota, if there is one and the moment is measured."""
        if self.quota is None or not self.recorder.measured(moment):
            return True
        if self.quota == 0:
            return False
        self.quota -= 1
        return True

    def rest(self, failed: bool) -> float:
        """Seconds until a user's next request."""
        pause = self.source.uniform(*self.plan.pause)
        return max(pause, _AFTER_FAILURE_SECONDS) if failed else pause

    def look(self) -> None:
        """Looks at the worker itself until the end."""
        process = psutil.Process()
        process.cpu_percent()
        since = self.recorder.now
        while True:
            before = self.recorder.now
            gevent.sleep(LOOK_SECONDS)
            now = self.recorder.now
            self.recorder.looked(self.in_flight, now - before - LOOK_SECONDS)
            if now - since >= 1:
                since = now
                self.recorder.processor(process.cpu_percent() / 100)
