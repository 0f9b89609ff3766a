"""Application Auto Scaling for variants and components: the API, and what evaluates it every moment."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.account import time_scale
from local_aws.hosting import components
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.metrics import Metrics
from local_aws.hosting.scalable import Scalable
from local_aws.hosting.scaling_observers import Observer, Waited, is_step, observer
from local_aws.hosting.scaling_records import Key, ScalingRecords
from sizing.autoscaling import History

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef as AlarmTypeDef

logger = logging.getLogger("scaling")
Document = dict[str, Any]
_ALARMS_SECONDS = 5.0
"""How often the alarms whose actions are step policies are read, in seconds."""


class ScalingService:
    """Targets, policies and schedules, and the observers that apply them."""

    def __init__(self, state: Path, control: ControlPlane, metrics: Metrics) -> None:
        self._records = ScalingRecords(state / "scaling.json")
        self._control, self._metrics = control, metrics
        self._alarms: list[AlarmTypeDef] = []
        self._observers: dict[Key, Observer] = {}
        self._registered: set[str] = set()
        self._histories: defaultdict[str, History] = defaultdict(History)
        self._scale = time_scale()

    def restore(self) -> None:
        """Read what an earlier process wrote."""
        self._records.read()

    @property
    def operations(self) -> frozenset[str]:
        """Operations of the API that the local account has."""
        return self._records.operations

    def handle(self, operation: str, request: Document) -> Document:
        """Respond to one API call; raise ApiError."""
        response = self._records.handle(operation, request)
        if operation == "RegisterScalableTarget":
            self._registered.add(request["ResourceId"])
        return response

    def has_target(self, endpoint: str, variant: str) -> bool:
        """Return whether a variant is registered as a scalable target."""
        return self._records.has(f"endpoint/{endpoint}/variant/{variant}")

    def forget(self, kind: str, name: str) -> None:
        """Deregister the targets of a SageMaker resource that was deleted."""
        if kind == "Endpoint":
            self._records.forget(lambda scalable: len(scalable.subject) == 2 and scalable.subject[0] == name)
        elif kind == components.KIND:
            self._records.forget(lambda scalable: scalable.subject == (name,))

    async def run(self) -> None:
        """Evaluate every policy and schedule when it is due, for as long as the process runs."""
        read = 0.0
        while True:
            await asyncio.sleep(min(1.0, 10 / self._scale / 5))
            now = time.monotonic()
            if now - read >= _ALARMS_SECONDS and any(map(is_step, self._records.policies.values())):
                read = now
                with contextlib.suppress(ClientError, BotoCoreError):
                    self.take_alarms(await asyncio.to_thread(_read_alarms))
            self.evaluate(now, datetime.now(UTC))

    def take_alarms(self, alarms: "list[AlarmTypeDef]") -> None:
        """Set the alarms whose actions step policies are."""
        self._alarms = alarms

    def evaluate(self, now: float, moment: datetime) -> None:
        """Take data points and scheduled actions that are due, and scale where they say so.

        now: seconds of a monotonic clock. moment: time of day, aware.
        """
        for resource, name, bounds in self._records.begin_due(moment):
            fleet = Scalable.parse(resource).fleet(self._control)
            if fleet is None:
                continue
            new = self._records.bounds(resource).hold(fleet.desired)
            if new != fleet.desired:
                self._apply(resource, new, f"scheduled action {name}: bounds {bounds}; from {fleet.desired}", now)
        for resource in list(self._registered):
            self._hold(resource, now)
        for policy in list(self._records.policies.values()):
            try:
                self._evaluate(policy, now)
            except Exception:
                # One policy must not keep the others from scaling.
                logger.exception("policy %s of %s was not evaluated", policy["PolicyName"], policy["ResourceId"])

    def _hold(self, resource: str, now: float) -> None:
        """Bring a target that was registered within its bounds, as soon as its endpoint can be resized."""
        fleet = Scalable.parse(resource).fleet(self._control)
        if fleet is None and self._records.has(resource):
            return
        if fleet is not None and self._records.has(resource):
            bounds = self._records.bounds(resource)
            new = bounds.hold(fleet.desired)
            side, limit = ("minimum", bounds.minimum) if new > fleet.desired else ("maximum", bounds.maximum)
            if new != fleet.desired and not self._apply(resource, new, f"{side} capacity was set to {limit}", now):
                return
        self._registered.discard(resource)

    def _evaluate(self, policy: Document, now: float) -> None:
        resource = policy["ResourceId"]
        fleet = Scalable.parse(resource).fleet(self._control)
        watching = self._observer(policy)
        if fleet is None or watching is None or not watching.observe(fleet, now):
            return
        verdict = watching.decide(fleet.desired, self._records.bounds(resource), self._waited(resource, now))
        if verdict is None or self._records.suspended(resource, out=verdict.capacity > fleet.desired):
            return
        self._apply(resource, verdict.capacity, verdict.cause, now)
        watching.applied()

    def _observer(self, policy: Document) -> Observer | None:
        """Return the policy's observer; a policy that was put again begins with a new one."""
        key = policy["ResourceId"], policy["PolicyName"]
        known = self._observers.get(key)
        if known is not None and known.policy is policy and known.still_applies(self._alarms):
            return known
        fresh = observer(policy, self._metrics, self._alarms, self._scale)
        if fresh is None:
            self._observers.pop(key, None)
            return None
        self._observers[key] = fresh
        return fresh

    def _waited(self, resource: str, now: float) -> Waited:
        history = self._histories[resource]
        return Waited(
            since_out=history.since(now, out=True) * self._scale,
            since_change=history.since(now, out=False) * self._scale,
        )

    def _apply(self, resource: str, new: int, cause: str, now: float) -> bool:
        """Resize a resource; return False if it cannot be resized now."""
        scalable = Scalable.parse(resource)
        fleet = scalable.fleet(self._control)
        grows = fleet is not None and new > fleet.desired
        try:
            scalable.resize(self._control, new)
        except ApiError:
            # The endpoint is being updated: the next data point decides again.
            return False
        self._histories[resource].record(now, grows=grows)
        self._records.record_activity(scalable, resource, new, cause)
        return True


def _read_alarms() -> "list[AlarmTypeDef]":
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
    return [alarm for page in pages for alarm in page["MetricAlarms"]]
