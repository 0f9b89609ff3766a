"""Limits on request bodies: how long one may take to arrive, and how much memory all of them may hold."""

import asyncio
from codecs import BOM_UTF8

from starlette.requests import ClientDisconnect, Request

from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.serving.memory import return_freed_memory

UNCOUNTED_BYTES = 16 * 1024
"""Bodies up to this size are always read, so large requests cannot keep small ones out."""
_DRAIN_BYTES = 8 * MAX_BODY_BYTES


_TRIM_BYTES = 32 * 2**20
"""Released bytes of large bodies after which freed memory returns to the system.

glibc keeps freed memory that lies below memory in use.
"""


class Bodies:
    """A reader of request bodies with limits on bytes and on partly received bodies.

    capacity_bytes: most bytes of bodies being read or computed, not counting those up to UNCOUNTED_BYTES. At least
        MAX_BODY_BYTES, so a lone request always fits.
    readers: most bodies that have partly arrived.
    timeout_seconds: longest time from the arrival of the head to the end of the body.
    """

    def __init__(self, *, capacity_bytes: int, readers: int, timeout_seconds: float) -> None:
        self._capacity, self._readers, self._timeout = max(capacity_bytes, MAX_BODY_BYTES), readers, timeout_seconds
        self._held = 0
        self._reading = 0
        self._released = 0

    async def read(self, request: Request) -> bytes:
        """Return the whole body, which counts toward the capacity until it is passed to `release`.

        Raises ServingError 413 over SageMaker's limit, 408 for a client that is too slow, and 503 over either bound.
        Raises ClientDisconnect if the client leaves.
        """
        try:
            async with asyncio.timeout(self._timeout):
                message = await request.receive()
                if message.get("more_body", False):
                    return await self._rest(request, message.get("body", b""))
        except TimeoutError:
            raise ServingError(
                408,
                "body_timeout",
                f"the body did not arrive within {self._timeout:g} s; send it faster or in a smaller request",
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        self._hold(len(body), 0)
        return body

    def release(self, body: bytes) -> None:
        """Stop counting a body, once no computation uses it."""
        counted = _counted(len(body))
        self._held -= counted
        self._released += counted
        if self._released >= _TRIM_BYTES:
            self._released = 0
            asyncio.get_running_loop().run_in_executor(None, return_freed_memory)

    async def _rest(self, request: Request, first: bytes) -> bytes:
        """Return a body whose first part has arrived; it counts as a reader until its last part arrives."""
        if self._reading >= self._readers:
            raise _overloaded(f"{self._reading} bodies have partly arrived, the limit is {self._readers}")
        self._reading += 1
        # One buffer: a list of parts of a few bytes each would take ten times the memory.
        body, size, kept, chunk, more = bytearray(), 0, 0, first, True
        try:
            while True:
                size += len(chunk)
                if size <= MAX_BODY_BYTES:
                    self._hold(size, kept)
                    kept = size
                    body += chunk
                elif size > _DRAIN_BYTES:
                    break
                else:
                    # A client that sends its whole body before it reads would see a reset instead of the error. So
                    # the rest of a body that is too large is received and dropped, up to a bound.
                    kept = self._forget(body, kept)
                if not more:
                    break
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            whole = bytes(body)
        except BaseException:
            self._forget(body, kept)
            raise
        finally:
            self._reading -= 1
        return whole

    def _hold(self, size: int, before: int) -> None:
        """Count a body as `size` bytes instead of `before`; raises ServingError 503."""
        held = self._held + _counted(size) - _counted(before)
        if held > self._capacity and size > UNCOUNTED_BYTES:
            raise _overloaded(f"the bodies of other requests take {self._held - _counted(before)} bytes")
        self._held = held

    def _forget(self, body: bytearray, kept: int) -> int:
        self._held -= _counted(kept)
        body.clear()
        return 0


def without_mark(body: bytes) -> bytes:
    """Return a body of text without the byte order mark that some editors and spreadsheets write."""
    return body[len(BOM_UTF8) :] if body.startswith(BOM_UTF8) else body


def _counted(size: int) -> int:
    return size if size > UNCOUNTED_BYTES else 0


def _too_large() -> ServingError:
    return ServingError(
        413, "body_too_large", f"the body is over {MAX_BODY_BYTES} bytes, SageMaker's limit; send a smaller request"
    )


def _overloaded(what: str) -> ServingError:
    return ServingError(503, "overloaded", f"{what}; try again later", retry_after_seconds=1)
