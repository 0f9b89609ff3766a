"""Rollout of an update: what share of the requests the new instances get when, and what rolls it back."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from local_aws.hosting.errors import ApiError, ReportedError, reason_of
from local_aws.hosting.fleet import Fleet, VariantFleet

logger = logging.getLogger("rollout")
Document = dict[str, Any]
AlarmStates = Callable[[Sequence[str]], Awaitable[dict[str, str] | None]]
"""Returns the state of each alarm that exists, by name, or None if CloudWatch does not respond."""
_POLL_SECONDS = 0.5


class RolledBackError(ReportedError):
    """An update must be rolled back; the message is the endpoint's FailureReason."""


class Clock(Protocol):
    """Clock that passes the seconds of a deployment configuration."""

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds of the clock."""

    @property
    def poll_seconds(self) -> float:
        """Interval between two checks of the alarms, in seconds of the clock."""


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """Clock that runs `scale` times faster than wall-clock time."""

    scale: float

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds / scale` of wall-clock time."""
        await asyncio.sleep(seconds / self.scale)

    @property
    def poll_seconds(self) -> float:
        """Half a second of wall-clock time, in seconds of the clock."""
        return _POLL_SECONDS * self.scale


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps of an update.

    shares: fraction of requests on the new instances after each step, up to 1. wait_seconds: time after each step in
    which the alarms are watched. keep_seconds: time from the last wait until the old instances end. timeout_seconds:
    limit on all waits together. rolling: whether new instances start and old ones end with each step. If not, all new
    ones start before the first step, and all old ones end after the last.
    """

    shares: tuple[float, ...] = (1.0,)
    wait_seconds: float = 0.0
    keep_seconds: float = 0.0
    timeout_seconds: float = math.inf
    alarms: tuple[str, ...] = ()
    rolling: bool = False

    @classmethod
    def parse(cls, config: Document | None, instances: Sequence[int]) -> "Plan":
        """Parse a DeploymentConfig for variants with these instance counts; raise ApiError as UpdateEndpoint would.

        Without a configuration, all requests move at once and no alarms are watched. Several variants move together, in
        steps that suit the smallest.
        """
        config = config or {}
        alarms = tuple(
            alarm["AlarmName"] for alarm in (config.get("AutoRollbackConfiguration") or {}).get("Alarms") or []
        )
        if len(alarms) > 10:
            raise _refused(f"AutoRollbackConfiguration has {len(alarms)} alarms: SageMaker allows at most ten")
        green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
        if green and rolling:
            raise _refused("BlueGreenUpdatePolicy and RollingUpdatePolicy are both set: use only one of them")
        if rolling:
            if len(instances) > 1:
                raise _refused("RollingUpdatePolicy is not supported on an endpoint with several variants")
            batch = _part(rolling["MaximumBatchSize"], instances, "MaximumBatchSize", 0.05)
            # Only whole instances can move.
            step = max(1, math.floor(batch * instances[0])) / instances[0]
            return cls(
                _steps(step),
                float(rolling["WaitIntervalInSeconds"]),
                timeout_seconds=_timeout(rolling),
                alarms=alarms,
                rolling=True,
            )
        if not green:
            return cls(alarms=alarms)
        routing = green["TrafficRoutingConfiguration"]
        shares: tuple[float, ...] = (1.0,)
        if routing["Type"] == "CANARY":
            shares = (_part(routing["CanarySize"], instances, "CanarySize", 0.0), 1.0)
        elif routing["Type"] == "LINEAR":
            shares = _steps(_part(routing["LinearStepSize"], instances, "LinearStepSize", 0.1))
        plan = cls(
            shares,
            float(routing["WaitIntervalInSeconds"]),
            float(green.get("TerminationWaitInSeconds") or 0),
            _timeout(green),
            alarms,
        )
        waits = len(plan.shares) * plan.wait_seconds + plan.keep_seconds
        if waits > plan.timeout_seconds:
            raise _refused(
                f"MaximumExecutionTimeoutInSeconds is {plan.timeout_seconds:g}: the waits alone take {waits:g} s"
            )
        return plan

    def first(self, count: int) -> int:
        """Return how many of a variant's new instances start before the first step."""
        return max(1, round(self.shares[0] * count)) if self.rolling else count


def _part(size: Document, instances: Sequence[int], name: str, least: float) -> float:
    """Return the fraction of the capacity that a CapacitySize means; raise ApiError unless from `least` to a half."""
    value, few = float(size["Value"]), min(instances)
    share = value / 100 if size["Type"] == "CAPACITY_PERCENT" else value / few
    if not least <= share <= 0.5 or share == 0:
        of = "copy count" if size["Type"] == "COPY_COUNT" else "variant's total instance count"
        raise _refused(
            f"{name} is {size['Value']} ({size['Type']}) for a count of {few}: it must be "
            f"{f'{least:.0%} to ' if least else 'at most '}50% of the {of}"
        )
    return share


def _steps(part: float) -> tuple[float, ...]:
    count = math.ceil(round(1 / part, 6))
    return (*(round(part * step, 6) for step in range(1, count)), 1.0)


def _timeout(policy: Document) -> float:
    return float(policy.get("MaximumExecutionTimeoutInSeconds") or math.inf)


def _refused(message: str) -> ApiError:
    return ApiError("ValidationException", message)


class Rollout:
    """Gradual move of the requests from one fleet to another, and back if an alarm fires.

    old: serves, with all its instances. new: already started, with the instances that the plan's first step needs.
    config: name of the new endpoint configuration. counts: target number of new instances per variant. changed: called
    on every visible change.
    """

    def __init__(
        self,
        old: Fleet,
        new: Fleet,
        plan: Plan,
        *,
        config: str,
        counts: dict[str, int],
        alarms: AlarmStates,
        clock: Clock,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.old, self.new, self.plan = old, new, plan
        self.share = 0.0
        self.stage = "Creating"
        self.rolling_back = False
        self._config, self._started = config, time.time()
        self._counts, self._alarms, self._clock, self._changed = counts, alarms, clock, changed
        self._before = {variant.name: variant.desired for variant in old.variants.values()}
        self._waited = 0.0

    def pick(self, variant: str | None) -> VariantFleet:
        """Return the variant for a request: on a fleet chosen by the share, or on the other one if only that is ready.

        variant: name; None chooses by weight. Raises KeyError for an unknown name.
        """
        fleets = [self.new, self.old] if random.random() < self.share else [self.old, self.new]
        chosen = fleets[0].pick_variant() if variant is None else fleets[0].production[variant]
        other = fleets[1].production[chosen.name]
        return chosen if chosen.ready or not other.ready else other

    def status(self) -> Document:
        """Return the fields that `inference local status` shows."""
        return {"config": self._config, "share": self.share, "stage": self.stage, "rolling_back": self.rolling_back}

    def pending(self) -> Document:
        """Return what DescribeEndpoint reports about the new instances."""
        state = {"Status": self.stage, "StatusMessage": f"{self.share:.0%} of the requests", "StartTime": self._started}
        return {
            "EndpointConfigName": self._config,
            "StartTime": self._started,
            "ProductionVariants": [
                {
                    "VariantName": variant.name,
                    "CurrentWeight": variant.weight,
                    "DesiredWeight": variant.weight,
                    "CurrentInstanceCount": len(variant.ready),
                    "DesiredInstanceCount": self._counts[variant.name],
                    "VariantStatus": [state],
                }
                for variant in self.new.variants.values()
            ],
        }

    async def run(self) -> str | None:
        """Take every step, then release the old instances; return the reason if the update was rolled back instead."""
        try:
            for share in self.plan.shares:
                if self.plan.rolling:
                    await self._resize(self.new, self._counts, share)
                self._move(share)
                await self._bake()
                if self.plan.rolling:
                    await self._resize(self.old, self._before, 1 - share)
        except Exception as error:
            if not isinstance(error, ReportedError):
                logger.exception("an update failed and is rolled back")
            await self._roll_back()
            return reason_of(error)
        await self._clock.sleep(self.plan.keep_seconds)
        return None

    def _move(self, share: float) -> None:
        self.share = share
        self.stage = "Baking" if self.plan.wait_seconds else "ActivatingTraffic"
        self._changed()

    async def _resize(self, fleet: Fleet, counts: dict[str, int], share: float) -> None:
        for name, count in counts.items():
            await fleet.resize(name, round(share * count))

    async def _bake(self) -> None:
        left = self.plan.wait_seconds
        while True:
            await self._check_alarms()
            if left <= 0:
                return
            pause = min(left, self._clock.poll_seconds)
            await self._clock.sleep(pause)
            left -= pause
            self._waited += pause
            if self._waited > self.plan.timeout_seconds:
                raise RolledBackError(
                    f"The deployment took more than {self.plan.timeout_seconds:g} seconds and was rolled back."
                )

    async def _check_alarms(self) -> None:
        if not self.plan.alarms:
            return
        states = await self._alarms(self.plan.alarms)
        if states is None:
            return
        if absent := [name for name in self.plan.alarms if name not in states]:
            raise RolledBackError(f"The deployment was rolled back: there is no alarm {', '.join(absent)}.")
        if fired := [name for name in self.plan.alarms if states[name] == "ALARM"]:
            raise RolledBackError(
                f"The deployment was rolled back with {self.share:.0%} of the requests on the new instances: "
                f"these alarms went to ALARM: {', '.join(fired)}."
            )

    async def _roll_back(self) -> None:
        """Move all requests back to the old instances, after restarting those that had ended."""
        self.rolling_back = True
        self._changed()
        # The old fleet's watcher keeps retrying instances that do not start now.
        await asyncio.gather(
            *(self.old.resize(name, count) for name, count in self._before.items()), return_exceptions=True
        )
        self._move(0.0)
        await self.new.stop()
