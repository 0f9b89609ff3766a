"""uvicorn's HTTP protocol with limits on time, bytes and connections, which uvicorn leaves to a proxy.

A head that is too large gets a 431, one that is too slow a 408, and a connection over the limit a 503. A client that
pipelines too many requests is disconnected after the last one accepted. Bodies have their own limits in `bodies`.

A client that reaches the port directly can still hold `max_connections()` connections, each as long as its limits
allow. On each connection it can hold:

- one read of unparsed bytes (256 KiB),
- up to 16 requests,
- a response of up to 6 MiB that it does not read for WRITE_SECONDS.

SageMaker's front end does none of that.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.serving.limits import (
    BODY_SECONDS,
    DRAIN_SIZES,
    HEAD_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    WRITE_SECONDS,
    max_connections,
)


class _RefusedError(Exception):
    """A signal from a callback that stops the parser; the reason is in the protocol's `_refusal`."""


class _Flow(FlowControl):
    """Flow control that stops reading while pipelined requests wait."""

    def __init__(self, transport: asyncio.Transport, blocked: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._blocked = blocked

    def resume_reading(self) -> None:
        """Resume reading, unless pipelined requests wait."""
        if self.read_paused and not self._blocked():
            super().resume_reading()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection, created by uvicorn; the method names are uvicorn's."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refusal: ServingError | None = None
        self._ended = False
        self._in_head = self._in_body = False
        self._heads = self._received = self._silent = self._dropped = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Count the connection, and wait for its first head."""
        super().connection_made(transport)
        self.flow = _Flow(transport, lambda: bool(self.pipeline))
        if len(self.connections) > (most := max_connections()):
            self._refuse(
                ServingError(503, "overloaded", f"{most} connections are open; try again later", retry_after_seconds=1)
            )
            return
        self._expect(HEAD_SECONDS, self._head_too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._expect(None)
        self._expect_reading(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes that arrived, and bound the head or the part of a body that they belong to."""
        if self._ended:
            return
        heads, in_body = self._heads, self._in_body
        self._received = len(data)
        self._silent += len(data)
        super().data_received(data)
        if self._ended or self.transport.is_closing():
            return
        if heads == self._heads and in_body == self._in_body:
            # A line without an end triggers no callback; in a body, it may belong to a chunk or a trailer.
            if self._silent > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif not in_body:
                self._expect_head()
        elif self._in_head:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._dropped = True, 0

    def on_headers_complete(self) -> None:
        """Start the request, or queue it until earlier ones have their responses."""
        self._in_head = False
        self._heads += 1
        self._silent = 0
        if self._timer is not None:
            self._expect(None)
        self._check_head()
        self._in_body = True
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0]
            self._end_behind_requests()
            raise _RefusedError

    def on_body(self, body: bytes) -> None:
        """Append to the body, or drop the data if the response has been sent."""
        self._silent = 0
        if self.cycle.response_complete:
            self._dropped += len(body)
            if self._dropped > DRAIN_SIZES * MAX_BODY_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body."""
        self._in_body = False
        self._silent = 0
        if self._timer is not None:
            self._expect(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that is no longer read."""
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._expect(BODY_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """Start the timer for the client to read."""
        super().pause_writing()
        self._expect_reading(WRITE_SECONDS)

    def resume_writing(self) -> None:
        """Stop the timer: the client has read."""
        super().resume_writing()
        self._expect_reading(None)

    def send_400_response(self, msg: str) -> None:
        """Respond to a request that the parser or a callback refused."""
        if self._ended:
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._is_answering and not self._in_body:
            self._end_behind_requests()
        else:
            self._ended = True
            super().send_400_response(msg)

    @property
    def _is_answering(self) -> bool:
        """Return whether a request has arrived whose response is incomplete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _check_head(self) -> None:
        if len(self.headers) > MAX_HEADERS:
            self._refusal = ServingError(
                431, "head_too_large", f"the request has {len(self.headers)} headers, at most {MAX_HEADERS} are read"
            )
            raise _RefusedError
        # A head that arrived in one smaller read cannot be too large.
        if self._received > MAX_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                self._refusal = _head_too_large()
                raise _RefusedError

    def _end_behind_requests(self) -> None:
        """Stop reading, and close the connection after responding to the requests that have arrived."""
        self.cycle.keep_alive = False
        self._ended = True

    def _refuse(self, error: ServingError) -> None:
        if self._is_answering and not self._in_body:
            # The client would take the error for the response to an earlier request.
            self._end_behind_requests()
            return
        self._ended = True
        if not self.transport.is_closing():
            self.transport.write(error_bytes(error))
            self.transport.close()

    def _expect_head(self) -> None:
        # While reading is paused, the client cannot send a head.
        if self._timer is None and not self.flow.read_paused:
            self._expect(HEAD_SECONDS, self._head_too_late)

    def _head_too_late(self) -> None:
        if self._in_head or self._silent:
            self._refuse(ServingError(408, "head_timeout", f"the head did not arrive within {HEAD_SECONDS:g} s"))
        else:
            self.transport.close()

    def _expect(self, seconds: float | None, otherwise: Callable[[], object] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and otherwise is not None:
            self._timer = self.loop.call_later(seconds, otherwise)

    def _expect_reading(self, seconds: float | None) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if seconds is not None:
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)


def error_bytes(error: ServingError) -> bytes:
    """Return the whole HTTP response for an error, after which the connection is closed."""
    body = msgspec.json.encode(error.body())
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if error.retry_after_seconds is not None:
        lines.append(f"retry-after: {error.retry_after_seconds}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _head_too_large() -> ServingError:
    return ServingError(431, "head_too_large", f"the head is over {MAX_HEAD_BYTES} bytes; send a shorter one")
