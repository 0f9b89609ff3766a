"""Replicas of one endpoint version, by variant."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_aws.hosting.background import restarted
from local_aws.hosting.replica import Replica, ReplicaFailedError, ReplicaSpec

logger = logging.getLogger("fleet")

DRAIN_SECONDS = 60
_MAX_BACKOFF_SECONDS = 30.0
_LOOK_SECONDS = 0.25
_MEMORY_SECONDS = 1.0
_BUSY = 8
"""Requests in flight per replica at which a model is also loaded on another replica."""


@dataclass
class VariantFleet:
    """Replicas of a variant, and their desired number.

    shadow: receives copies of a production variant's requests, in the ratio of its weight to that variant's weight.
    random: whether requests go to a random replica instead of the one with the fewest in flight.
    """

    name: str
    spec: ReplicaSpec
    desired: int
    weight: float
    start_timeout_seconds: float
    shadow: bool = False
    random: bool = False
    replicas: list[Replica] = field(default_factory=list)
    restarts: int = 0
    note: str = ""

    @property
    def ready(self) -> list[Replica]:
        """Replicas that accept requests."""
        return [replica for replica in self.replicas if replica.ready and replica.running]

    def status(self) -> dict[str, Any]:
        """Return what `inference local status` shows."""
        return {
            "name": self.name,
            "desired": self.desired,
            "restarts": self.restarts,
            "note": "; ".join(note for note in (self.spec.image.note, self.note) if note),
            "replicas": [
                {"id": r.id, "pid": r.pid, "port": r.port, "ready": r.ready, "started": r.started}
                for r in self.replicas
            ],
        }

    def pick(self, target_model: str | None) -> Replica | None:
        """Return the ready replica that the routing strategy chooses, or None if none is ready.

        A target model goes to a replica that has it loaded, unless all of those are busy.
        """
        ready = self.ready
        if target_model is not None:
            having = [replica for replica in ready if replica.models and replica.models.has(target_model)]
            if having and min(replica.in_flight for replica in having) < _BUSY:
                ready = having
        if self.random and ready:
            return random.choice(ready)
        return min(ready, key=lambda replica: replica.in_flight, default=None)


class Fleet:
    """Variants of one endpoint version, which it starts, watches, resizes and drains."""

    def __init__(self, endpoint: str, state: Path, variants: list[VariantFleet], changed: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self.variants = {variant.name: variant for variant in variants}
        self._state, self._changed = state, changed
        self._watcher: asyncio.Task[None] | None = None
        self._repairs: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def production(self) -> dict[str, VariantFleet]:
        """Variants that respond to requests."""
        return {name: variant for name, variant in self.variants.items() if not variant.shadow}

    @property
    def shadows(self) -> list[VariantFleet]:
        """Variants that receive copies of requests."""
        return [variant for variant in self.variants.values() if variant.shadow]

    async def start(self) -> None:
        """Start every replica and wait until all are ready; on a failure stop all and raise ReplicaFailedError."""
        starting = [self._add(variant) for variant in self.variants.values() for _ in range(variant.desired)]
        results = await asyncio.gather(*starting, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await self.stop()
            raise failures[0]
        self._watcher = asyncio.create_task(restarted(self._watch))

    async def stop(self) -> None:
        """Let requests in flight finish, then stop every replica."""
        tasks = [*self._repairs.values(), *([self._watcher] if self._watcher is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._stopping, return_exceptions=True)
        replicas = [replica for variant in self.variants.values() for replica in variant.replicas]
        await asyncio.gather(*(_drain(replica) for replica in replicas))
        for variant in self.variants.values():
            variant.replicas.clear()

    async def resize(self, name: str, count: int) -> None:
        """Start or drain replicas of a variant until it has `count`."""
        variant = self.variants[name]
        variant.desired = count
        if count > len(variant.replicas):
            # Create all of them before the first await, so the watcher misses none.
            replicas = [self._make(variant) for _ in range(count - len(variant.replicas))]
            await asyncio.gather(*(self._start(variant, replica) for replica in replicas))
        else:
            surplus, variant.replicas = variant.replicas[count:], variant.replicas[:count]
            await asyncio.gather(*(_drain(replica) for replica in surplus))
        self._changed()

    def pick_variant(self) -> VariantFleet:
        """Choose a variant by weight."""
        names = list(self.production.values())
        return random.choices(names, weights=[variant.weight for variant in names])[0]

    async def _add(self, variant: VariantFleet) -> None:
        await self._start(variant, self._make(variant))

    def _make(self, variant: VariantFleet) -> Replica:
        replica = Replica(self._state, variant.spec, f"{self.endpoint}/{variant.name}")
        variant.replicas.append(replica)
        return replica

    async def _start(self, variant: VariantFleet, replica: Replica) -> None:
        try:
            await replica.start(variant.start_timeout_seconds)
        except BaseException:
            # Scaling in may already have removed it.
            if replica in variant.replicas:
                variant.replicas.remove(replica)
            await replica.stop()
            raise

    async def _watch(self) -> None:
        looked = 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            for variant in self.variants.values():
                if now - looked >= _MEMORY_SECONDS:
                    for replica in variant.replicas:
                        replica.kill_over_limit()
                for replica in [each for each in variant.replicas if each.lost]:
                    self._replace(variant, replica)
                # A variant whose containers do not start must not delay repairs of another.
                if len(variant.replicas) < variant.desired and variant.name not in self._repairs:
                    self._repairs[variant.name] = asyncio.create_task(self._repair(variant))
            if now - looked >= _MEMORY_SECONDS:
                looked = now

    def _replace(self, variant: VariantFleet, replica: Replica) -> None:
        variant.replicas.remove(replica)
        variant.restarts += 1
        why = f"was killed: {replica.killed}" if replica.killed else f"died: {replica.last_lines(1)}"
        variant.note = f"replica {replica.id} {why}; a replacement was started"
        self._changed()
        stopping = asyncio.create_task(replica.stop())
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def _repair(self, variant: VariantFleet) -> None:
        """Start a variant's missing replicas, with increasing pauses while they fail to start."""
        backoff = 0.5
        try:
            while (missing := variant.desired - len(variant.replicas)) > 0:
                started = await asyncio.gather(*(self._add(variant) for _ in range(missing)), return_exceptions=True)
                failures = [each for each in started if isinstance(each, BaseException)]
                if not failures:
                    continue
                if unexpected := [each for each in failures if not isinstance(each, ReplicaFailedError)]:
                    logger.error("a replica of %s could not be started", self.endpoint, exc_info=unexpected[0])
                variant.note = str(failures[0])
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _MAX_BACKOFF_SECONDS)
        finally:
            del self._repairs[variant.name]


async def _drain(replica: Replica) -> None:
    replica.ready = False
    deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
    while replica.in_flight and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    await replica.stop()
