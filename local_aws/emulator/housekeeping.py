"""Removal of what is too old to keep: datapoints, log events, and what nobody can read anymore."""

import asyncio
import logging
import time

from local_aws.account import time_scale
from local_aws.emulator import logs, telemetry
from local_aws.emulator.ministack import history
from local_aws.emulator.ministack.application import after_loading_state

logger = logging.getLogger("housekeeping")
_PERIOD_SECONDS = max(1.0, 60 / time_scale())
"""A minute of the alarms' time."""
_tasks: set[asyncio.Task[None]] = set()


def _remove_old(now: float) -> None:
    telemetry.metrics().age(now)
    logs.expire(now)
    history.forget(now)


async def _remove_forever() -> None:
    while True:
        await asyncio.sleep(_PERIOD_SECONDS)
        try:
            await asyncio.to_thread(_remove_old, time.time())
        except Exception:
            # Whatever it was, the next round may succeed, and the account works on meanwhile.
            logger.exception("old data could not be removed")


def _start() -> None:
    task = asyncio.get_running_loop().create_task(_remove_forever())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def register() -> None:
    """Start once the state is loaded."""
    after_loading_state(_start)
