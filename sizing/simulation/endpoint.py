"""The simulated system: an endpoint variant, the behavior of its instances, and its scaling."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from sizing.autoscaling import INVOCATIONS, Bounds, MetricKind, StepScaling, TargetTracking
from sizing.service_times import ServiceTimes

Routing = Literal["random", "least_outstanding"]
TIMEOUT_SECONDS = 60.0
"""Time limit for a container's response (InvokeEndpoint, SageMaker Runtime API reference)."""


class SimulationError(ValueError):
    """A simulation is invalid; the message names the field, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """Target tracking of one metric: invocations per minute per instance, or requests in flight per instance."""

    policy: TargetTracking
    kind: MetricKind = INVOCATIONS


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduled change of the bounds: cron(...), rate(...) or at(...) in a time zone."""

    schedule: str
    bounds: Bounds
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A variant behind an endpoint. Raises SimulationError for values out of range.

    service: service time of a request, without waiting.
    workers: requests that an instance serves at the same time.
    instances: number of instances at the start.
    bounds: minimum and maximum for scaling.
    routing: SageMaker routes at random unless RoutingConfig selects least outstanding requests.
    queue_limit: requests that may wait on an instance before it rejects the next; None for no limit.
    timeout_seconds: time after which a request has failed, while its instance still works on it.
    provisioning_seconds: time from the decision to add an instance until it takes requests. It can include
        CloudWatch's delay before a datapoint is available.
    counted: when a request counts as an invocation: "answer" when it is answered, as in the local account, so an
        overloaded instance counts no more than it serves; or "arrival". A request is in flight until its response or
        timeout.
    tracking, steps, schedules: scaling policies. Steps follow invocations per minute per instance.
    time_scale: factor by which the alarms' periods and cooldowns run faster than the clock, as in the local account.
    alarm_phase: fraction of the alarms' period that has passed at second 0; on AWS it is random.
    began: time of day at second 0, the reference for schedules.
    """

    service: ServiceTimes
    workers: int
    instances: int
    bounds: Bounds
    routing: Routing = "random"
    queue_limit: int | None = None
    timeout_seconds: float = TIMEOUT_SECONDS
    provisioning_seconds: float = 240.0
    counted: Literal["answer", "arrival"] = "answer"
    tracking: Tracking | None = None
    steps: StepScaling | None = None
    schedules: tuple[Schedule, ...] = ()
    time_scale: float = 1.0
    alarm_phase: float = 0.0
    began: datetime = field(default=datetime(2026, 1, 1, tzinfo=UTC))

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise SimulationError(f"workers is {self.workers}: give 1 or more")
        if not 1 <= self.bounds.minimum <= self.instances <= self.bounds.maximum:
            raise SimulationError(
                f"instances is {self.instances}, with bounds {self.bounds.minimum} to {self.bounds.maximum}: "
                "give 1 <= minimum <= instances <= maximum"
            )
        if self.queue_limit is not None and self.queue_limit < 0:
            raise SimulationError(f"queue_limit is {self.queue_limit}: give a number from 0, or none")
        for name, least in (("timeout_seconds", 0.0), ("provisioning_seconds", 0.0), ("time_scale", 1.0)):
            value = getattr(self, name)
            if not (value >= least and math.isfinite(value)):
                raise SimulationError(f"{name} is {value}: give a number from {least:g}")

        if not 0 <= self.alarm_phase < 1:
            raise SimulationError(f"alarm_phase is {self.alarm_phase}: give a fraction from 0 to below 1")

    @property
    def mean_service(self) -> float:
        """Mean service time in seconds."""
        return self.service.mean_ms / 1000

    @property
    def rate_per_instance(self) -> float:
        """Requests per second that an instance can serve."""
        return self.workers / self.mean_service
