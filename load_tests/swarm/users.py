"""The users that Locust starts and stops: clients in a closed loop, and the generator of an open one."""

from typing import ClassVar

import gevent
from gevent.pool import Group
from locust import User, task
from locust.exception import StopUser

from load_tests.plan import Place, Plan, share
from load_tests.swarm.station import Outcome, Station

_IDLE_SECONDS = 0.1


class _Stationed(User):
    """A user of this worker's station, which the worker sets before any user starts."""

    abstract = True
    station: ClassVar[Station]

    def report(self, outcome: Outcome) -> None:
        """Tells Locust's own statistics and whoever listens to its events."""
        self.environment.events.request.fire(
            request_type="POST",
            name=outcome.name,
            response_time=outcome.seconds * 1000,
            response_length=outcome.size,
            exception=outcome.failure,
            context={},
        )


class ClosedLoop(_Stationed):
    """Sends its next request when it has the answer to the last, always to the same place."""

    def on_start(self) -> None:
        """Takes a seat, and with it a place."""
        self._seat = self.station.seat()
        self._place: Place = self.station.place_of(self._seat)

    def on_stop(self) -> None:
        """Leaves the seat to a user that comes later."""
        self.station.leave(self._seat)

    @task
    def ask(self) -> None:
        """One request and the pause after it."""
        station = self.station
        if station.closing:
            raise StopUser
        began = station.recorder.now
        if not station.may_send(began):
            gevent.sleep(_IDLE_SECONDS)
            return
        outcome = station.ask(self._place, began)
        self.report(outcome)
        rest = station.rest(failed=outcome.failure is not None)
        if rest > 0:
            gevent.sleep(rest)


class OpenLoop(_Stationed):
    """Sends at the times of a schedule, whether or not earlier requests are answered; one on every worker."""

    fixed_count = 1

    @task
    def generate(self) -> None:
        """Runs the whole schedule and waits for its last answers."""
        station = self.station
        plan, recorder = station.plan, station.recorder
        flying = Group()
        for number, due in enumerate(self._schedule()):
            wait = due - recorder.now
            if wait > 0:
                gevent.sleep(wait)
            if station.closing:
                break
            if len(flying) >= plan.in_flight_of_a_worker:
                recorder.unsent(due)
                # A generator that only counts must still let answers in.
                gevent.sleep(0)
                continue
            flying.spawn(self._send, plan.places[number % len(plan.places)], due)
        flying.join()
        raise StopUser

    def _send(self, place: Place, due: float) -> None:
        self.report(self.station.ask(place, due))

    def _schedule(self) -> list[float]:
        plan, station = self.station.plan, self.station
        course, warm_up, end = plan.course, plan.warm_up, plan.warm_up + plan.seconds
        before, within = (
            share(round(course.total(begin, until)), station.number, plan.workers)
            for begin, until in ((0.0, warm_up), (warm_up, end))
        )
        station.recorder.scheduled(within)
        return [
            *course.arrivals(before, 0.0, warm_up, station.source),
            *course.arrivals(within, warm_up, end, station.source),
        ]


def user_class(plan: Plan) -> type[_Stationed]:
    """The plan's kind of user."""
    if plan.mode == "closed":
        return ClosedLoop
    OpenLoop.fixed_count = plan.workers
    return OpenLoop
