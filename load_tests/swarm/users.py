"""Locust users of both modes: clients in a closed loop, and the request generator of an open loop."""

from typing import ClassVar

import gevent
from gevent.pool import Group
from locust import User, task
from locust.exception import StopUser

from load_tests.plan import Place, Plan, share
from load_tests.swarm.worker_state import Outcome, WorkerState

_IDLE_SECONDS = 0.1


class _WorkerUser(User):
    """A user of this process's load generator, `worker`, which is set before any user starts."""

    abstract = True
    worker: ClassVar[WorkerState]

    def report(self, outcome: Outcome) -> None:
        """Report an outcome to Locust's own statistics and its event listeners."""
        self.environment.events.request.fire(
            request_type="POST",
            name=outcome.name,
            response_time=outcome.seconds * 1000,
            response_length=outcome.size,
            exception=outcome.failure,
            context={},
        )


class ClosedLoop(_WorkerUser):
    """Client that sends its next request once its previous one is answered, always to the same place."""

    def on_start(self) -> None:
        """Acquire a slot, which determines the place that requests go to."""
        self._slot = self.worker.take_slot()
        self._place: Place = self.worker.place_of(self._slot)

    def on_stop(self) -> None:
        """Release the slot for a later user."""
        self.worker.release_slot(self._slot)

    @task
    def ask(self) -> None:
        """Send one request and pause after it."""
        worker = self.worker
        if worker.closing:
            raise StopUser
        began = worker.recorder.now
        if not worker.may_send(began):
            gevent.sleep(_IDLE_SECONDS)
            return
        outcome = worker.send(self._place, began)
        self.report(outcome)
        pause = worker.pause(failed=outcome.failure is not None)
        if pause > 0:
            gevent.sleep(pause)


class OpenLoop(_WorkerUser):
    """Generator that sends on a schedule, whether or not earlier requests are answered; one on every worker."""

    fixed_count = 1

    @task
    def generate(self) -> None:
        """Run the whole schedule and wait for its last responses."""
        worker = self.worker
        plan, recorder = worker.plan, worker.recorder
        flying = Group()
        for number, due in enumerate(self._schedule()):
            wait = due - recorder.now
            if wait > 0:
                gevent.sleep(wait)
            if worker.closing:
                break
            if len(flying) >= plan.in_flight_of_a_worker:
                recorder.unsent(due)
                # Yield even when nothing is sent, or no response would be processed.
                gevent.sleep(0)
                continue
            flying.spawn(self._send, plan.places[number % len(plan.places)], due)
        flying.join()
        raise StopUser

    def _send(self, place: Place, due: float) -> None:
        self.report(self.worker.send(place, due))

    def _schedule(self) -> list[float]:
        plan, worker = self.worker.plan, self.worker
        course, warm_up, end = plan.course, plan.warm_up, plan.warm_up + plan.seconds
        before, within = (
            share(round(course.total(begin, until)), worker.number, plan.workers)
            for begin, until in ((0.0, warm_up), (warm_up, end))
        )
        worker.recorder.scheduled(within)
        return [
            *course.arrivals(before, 0.0, warm_up, worker.source),
            *course.arrivals(within, warm_up, end, worker.source),
        ]


def user_class(plan: Plan) -> type[_WorkerUser]:
    """Return the class of users for the plan's mode."""
    if plan.mode == "closed":
        return ClosedLoop
    OpenLoop.fixed_count = plan.workers
    return OpenLoop
