"""Background work whose exceptions never go unnoticed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from local_aws.hosting.errors import ReportedError, reason_of

logger = logging.getLogger("background")
_RESTART_SECONDS = 1.0


async def guarded(work: Coroutine[Any, Any, None], failed: Callable[[str], None]) -> None:
    """Await work on a resource; on any exception call `failed` with the reason, so the resource can leave its state."""
    try:
        await work
    except Exception as error:
        if not isinstance(error, ReportedError):
            logger.exception("background work failed")
        failed(reason_of(error))


async def restarted(work: Callable[[], Awaitable[None]]) -> None:
    """Run a service loop for as long as the process runs, and start it again after any exception."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("a service loop failed and is started again")
        await asyncio.sleep(_RESTART_SECONDS)
