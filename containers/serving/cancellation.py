"""Cancellation of requests whose client has left or whose deadline has passed."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from containers.serving.errors import ServingError

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
"""A request's channel of ASGI messages, whose values may have any type."""
RESPONSE_SECONDS = 60.0
"""Seconds that SageMaker waits for a container's response (InvokeEndpoint)."""


class Cancellation:
    """The cancellation state of one request, created on its arrival and shared between its threads.

    seconds: time from arrival to the response deadline.
    """

    def __init__(self, seconds: float = RESPONSE_SECONDS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._deadline = clock() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Record that the client has left, and run the callbacks of `on_cancel`."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            self._cancelled = True
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Run the callback when the client leaves, on the thread that calls `cancel`; at once if it has left."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def error(self) -> ServingError | None:
        """Return the reason why the response is no longer needed, or None."""
        if self._cancelled:
            return ServingError(499, "client_left", "the client closed its connection before the response")
        if self._clock() >= self._deadline:
            return ServingError(
                504, "timeout", f"the response was not ready within {self._seconds:g} s; send fewer items at once"
            )
        return None

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the deadline, 0 once it has passed."""
        return max(0.0, self._deadline - self._clock())

    def check(self) -> None:
        """Raise ServingError 499 or 504 if the response is no longer needed."""
        if (error := self.error()) is not None:
            raise error


async def cancel_when_client_leaves(receive: Receive, cancellation: Cancellation) -> None:
    """Wait for the client to close its connection, then cancel; run it after the request's body has arrived."""
    while (await receive())["type"] != "http.disconnect":
        pass
    cancellation.cancel()


async def while_wanted(receive: Receive, work: Coroutine[Any, Any, T], cancellation: Cancellation) -> T:
    """Return the result of `work`, which is canceled when the client leaves or the deadline passes.

    Run it after the request's body has arrived. Raises whatever `work` raises, and ServingError 499 or 504.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(cancel_when_client_leaves(receive, cancellation))
    try:
        while not task.done():
            await asyncio.wait((task, watch), timeout=cancellation.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                if watch.done():
                    watch.result()
                cancellation.check()
        return task.result()
    finally:
        watch.cancel()
        task.cancel()
