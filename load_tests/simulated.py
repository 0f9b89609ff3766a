"""An endpoint for the simulator, with the scaling of a deployment's settings."""

import math
from dataclasses import dataclass
from typing import Literal

from sizing.autoscaling import CONCURRENCY, INVOCATIONS, Bounds, Step, StepScaling, TargetTracking
from sizing.profiles import ServiceProfile
from sizing.simulation.endpoint import Endpoint, Schedule, Tracking
from stacks.settings.scaling import Scaling

Routing = Literal["random", "least_outstanding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioning:
    """How instances come and take requests.

    safety: share of an instance's maximum rate that the first instances are provided for, 0 to 1. seconds: until a new
    instance takes requests. queue_limit: waiting requests before an instance refuses one; None for no limit.
    timeout_seconds: after which a request has failed. time_scale: how many times faster than real time alarms and
    cooldowns pass.
    """

    safety: float
    seconds: float
    routing: Routing = "random"
    queue_limit: int | None = None
    timeout_seconds: float = 60.0
    time_scale: float = 1.0


def simulated_endpoint(
    profile: ServiceProfile, scaling: Scaling, *, first_rate: float, provisioning: Provisioning
) -> Endpoint:
    """Return an endpoint that begins with the instances that its first rate needs."""
    bounds = Bounds(max(1, scaling.min_capacity), scaling.max_capacity)
    tracking = None
    if scaling.target_value is not None:
        policy = TargetTracking(
            scaling.target_value, scaling.scale_out_cooldown_seconds, scaling.scale_in_cooldown_seconds
        )
        tracking = Tracking(policy, CONCURRENCY if scaling.tracks_concurrency else INVOCATIONS)
    return Endpoint(
        service=profile.service,
        workers=profile.servers,
        instances=bounds.hold(math.ceil(first_rate / (profile.max_rate_per_instance * provisioning.safety))),
        bounds=bounds,
        routing=provisioning.routing,
        queue_limit=provisioning.queue_limit,
        timeout_seconds=provisioning.timeout_seconds,
        provisioning_seconds=provisioning.seconds,
        tracking=tracking,
        steps=_steps(scaling),
        schedules=tuple(
            Schedule(each.schedule, Bounds(max(1, each.min_capacity), each.max_capacity), each.timezone)
            for each in scaling.schedules.values()
        ),
        time_scale=provisioning.time_scale,
    )


def _steps(scaling: Scaling) -> StepScaling | None:
    if scaling.step is None:
        return None
    bounds = [each.over for each in scaling.step.steps] + [math.inf]
    steps = tuple(Step(each.over, bounds[index + 1], each.change) for index, each in enumerate(scaling.step.steps))
    return StepScaling(scaling.step.threshold, scaling.step.evaluation_periods, steps, scaling.step.cooldown_seconds)
