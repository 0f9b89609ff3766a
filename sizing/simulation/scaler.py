"""Scaling of a simulated endpoint's instances from its metrics, by the rules of sizing.autoscaling."""

import math
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from sizing.autoscaling import INVOCATIONS, Bounds, History, MetricKind, step, track
from sizing.schedules import next_due
from sizing.simulation.endpoint import Endpoint, Schedule


@dataclass(frozen=True, slots=True)
class Action:
    """A change of the desired instances: the time in seconds, the numbers before and after, and the cause."""

    seconds: float
    before: int
    after: int
    cause: str


class _Points:
    """Datapoints of one policy, derived from running totals."""

    def __init__(self, kind: MetricKind, endpoint: Endpoint) -> None:
        self.kind = kind
        self.period = kind.period / endpoint.time_scale
        self.next = self.period * (1 - endpoint.alarm_phase)
        self.values: deque[float] = deque(maxlen=max(kind.in_points, kind.out_points))
        self._total = 0.0

    def take(self, total: float, ready: int) -> None:
        """Add a datapoint per instance from the increase of the total: counts per minute, or a time average."""
        unit = 1.0 if self.kind.period < INVOCATIONS.period else INVOCATIONS.period
        self.values.append((total - self._total) * unit / self.period / max(1, ready))
        self._total = total
        self.next += self.period


class Scaler:
    """The instances of an endpoint: `ready` take requests, `desired` are requested and billed.

    While instances are being provisioned, any other change is rejected and its datapoints are lost, because SageMaker
    rejects updates to an endpoint that is being updated. Removed instances stop taking requests at once.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.ready = self.desired = endpoint.instances
        self.actions: list[Action] = []
        self._endpoint = endpoint
        self._bounds = endpoint.bounds
        self._history = History()
        self._ready_at = math.inf
        self._tracked = _Points(endpoint.tracking.kind, endpoint) if endpoint.tracking else None
        steps = endpoint.steps
        self._stepped = _Points(MetricKind(INVOCATIONS.period, steps.periods, 1), endpoint) if steps else None
        self._due = [(self._seconds_of(each, endpoint.began), each) for each in endpoint.schedules]

    @property
    def next_moment(self) -> float:
        """Next time in seconds at which something may change."""
        points = (each.next for each in (self._tracked, self._stepped) if each is not None)
        return min(self._ready_at, *points, *(due for due, _ in self._due), math.inf)

    def advance(self, now: float, invocations: float, in_flight_seconds: float) -> None:
        """Apply everything that is due by now.

        invocations: requests since the beginning.
        in_flight_seconds: total time in the system of these requests, the integral of the requests in flight.
        """
        if self._ready_at <= now:
            self.ready, self._ready_at = self.desired, math.inf
        for index, (due, schedule) in enumerate(self._due):
            if due <= now:
                self._bounds = schedule.bounds
                self._due[index] = self._seconds_of(schedule, self._moment(now)), schedule
                self._change(now, self._bounds.hold(self.desired), f"schedule {schedule.schedule}")
        tracking, steps = self._endpoint.tracking, self._endpoint.steps
        if self._tracked is not None and tracking is not None and self._tracked.next <= now:
            counts = tracking.kind.period >= INVOCATIONS.period
            self._tracked.take(invocations if counts else in_flight_seconds, self.ready)
            points = list(self._tracked.values)
            new = track(tracking.policy, tracking.kind, points, self.desired, self._bounds, **self._waited(now))
            if new != self.desired:
                self._change(now, new, f"target tracking: {points[-1]:.1f}, target {tracking.policy.target:g}")
                self._tracked.values.clear()
        if self._stepped is not None and steps is not None and self._stepped.next <= now:
            self._stepped.take(invocations, self.ready)
            points = list(self._stepped.values)
            new = step(steps, points, self.desired, self._bounds, **self._waited(now))
            self._change(now, new, f"step: {points[-1]:.1f}, over {steps.threshold:g}")

    def _waited(self, now: float) -> dict[str, float]:
        scale = self._endpoint.time_scale
        return {
            "since_out": self._history.since(now, out=True) * scale,
            "since_change": self._history.since(now, out=False) * scale,
        }

    def _change(self, now: float, new: int, cause: str) -> None:
        if new == self.desired or math.isfinite(self._ready_at):
            return
        self.actions.append(Action(now, self.desired, new, cause))
        self._history.record(now, grows=new > self.desired)
        grows, self.desired = new > self.desired, new
        if grows and self._endpoint.provisioning_seconds > 0:
            self._ready_at = now + self._endpoint.provisioning_seconds
        else:
            self.ready = new

    def _moment(self, now: float) -> datetime:
        return self._endpoint.began + timedelta(seconds=now)

    def _seconds_of(self, schedule: Schedule, after: datetime) -> float:
        due = next_due(schedule.schedule, schedule.timezone, after)
        return math.inf if due is None else (due - self._endpoint.began).total_seconds()


def bounds_of(endpoint: Endpoint) -> Bounds:
    """Return the lowest minimum and the highest maximum that any schedule sets."""
    every = [endpoint.bounds, *(each.bounds for each in endpoint.schedules)]
    return Bounds(min(each.minimum for each in every), max(each.maximum for each in every))
