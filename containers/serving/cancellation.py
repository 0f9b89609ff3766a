"""Whether anyone still waits for a request's response: its client may leave, and its deadline passes."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from containers.serving.errors import ServingError

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
"""A request's channel of ASGI messages, whose values are of any type."""
RESPONSE_SECONDS = 60.0
"""SageMaker waits no longer for a container (InvokeEndpoint)."""


class Cancellation:
    """Made when a request arrives and shared between its threads.

    seconds: after which its deadline has passed.
    """

    def __init__(self, seconds: float = RESPONSE_SECONDS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._deadline = clock() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Note that the client has left, and run what `on_cancel` was given."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            self._cancelled = True
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Run the callback when the client leaves, on whichever thread notes it; at once where it has left."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def error(self) -> ServingError | None:
        """Return why nobody waits for the response any more, or None."""
        if self._cancelled:
            return ServingError(499, "client_left", "the client closed its connection before the response")
        if self._clock() >= self._deadline:
            return ServingError(
                504, "timeout", f"the response was not ready within {self._seconds:g} s; send fewer items at once"
            )
        return None

    @property
    def seconds_left(self) -> float:
        """Time until the deadline, 0 once it has passed."""
        return max(0.0, self._deadline - self._clock())

    def check(self) -> None:
        """Raise ServingError 499 or 504 where nobody waits for the response any more."""
        if (error := self.error()) is not None:
            raise error


async def cancel_when_client_leaves(receive: Receive, cancellation: Cancellation) -> None:
    """Wait for the client to close its connection; to be run once the request's body has been received."""
    while (await receive())["type"] != "http.disconnect":
        pass
    cancellation.cancel()


async def while_wanted(receive: Receive, work: Coroutine[Any, Any, T], cancellation: Cancellation) -> T:
    """Return the result of `work`, which is cancelled when the client leaves or the deadline passes.

    To be run once the request's body has been received. Raises what `work` raises, and ServingError 499 or 504.
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
