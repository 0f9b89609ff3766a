"""Shadow variants: they receive copies of a production variant's requests, and their responses are discarded."""

import asyncio
import random
import time
from collections.abc import Mapping

import aiohttp

from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.metrics import Metrics, Subject


class Mirror:
    """Sender of a share of the requests to shadow variants; measures their responses."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def reflect(self, fleet: Fleet, variant: VariantFleet, body: bytes, headers: Mapping[str, str]) -> None:
        """Send one request to the fleet's shadows, each with the probability shadow weight / variant weight."""
        for shadow in fleet.shadows:
            if random.random() * variant.weight < shadow.weight:
                task = asyncio.create_task(self._send((fleet.endpoint, shadow.name), shadow, body, headers))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send(self, subject: Subject, shadow: VariantFleet, body: bytes, headers: Mapping[str, str]) -> None:
        replica = shadow.pick(None)
        if replica is None:
            return
        started = time.perf_counter()
        replica.in_flight += 1
        try:
            async with replica.client.post("/invocations", data=body, headers=headers) as response:
                await response.read()
                status = response.status
        except TimeoutError:
            status = 504
        except aiohttp.ClientError:
            status = 502
        finally:
            replica.in_flight -= 1
        self._metrics.record(subject, status, (time.perf_counter() - started) * 1e6, 0.0)
