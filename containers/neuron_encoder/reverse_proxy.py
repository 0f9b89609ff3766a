"""Reverse proxy on SageMaker's port: passes each request on unchanged to the least busy server process.

It parses only a request's head and its length, and passes the response's bytes on: every bit of work here takes CPU
time from the tokenizers.

Connections have the limits of `containers.serving.limits`, and the bodies of all connections share a limit in bytes. A
request over a limit gets a 408, 431 or 503, or its connection is closed after the responses to earlier requests.
SageMaker's own front end shields the container from clients; a client that reaches the port directly can hold as many
connections as are allowed, each for as long as the timeouts allow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools
import msgspec

from containers.neuron_encoder.app import ANSWERS, draining_error
from containers.neuron_encoder.metrics import CONTENT_TYPE
from containers.neuron_encoder.upstream import NoAnswerError, Upstream, UpstreamError
from containers.serving.bodies import UNCOUNTED_BYTES
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError, where_it_failed
from containers.serving.limits import (
    BODY_SECONDS,
    DRAIN_SIZES,
    HEAD_SECONDS,
    IDLE_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    WRITE_SECONDS,
    max_connections,
)
from containers.serving.loopback import refusal

_PREDICTIONS = b"/predictions_neuron_core_"
_MAX_HELD_BYTES = 128 * 2**20
"""Limit on the bodies of all requests without a response yet, not counting those of up to UNCOUNTED_BYTES."""
_RESPONSE_SECONDS = 60.0
"""SageMaker's limit for a container's response (InvokeEndpoint)."""
_HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"expect", b"upgrade", b"te"}
_READS = (b"GET", b"HEAD")
_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
logger = logging.getLogger("neuron_encoder")


class ReverseProxy:
    """State that all connections share.

    upstreams: the server processes. cores: process of each NeuronCore, by its number in a path. metrics: returns the
    metrics in Prometheus's text format. loopback: set later if it serves only programs of its own machine.
    """

    def __init__(
        self, upstreams: Sequence[Upstream], cores: dict[bytes, Upstream], metrics: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._upstreams, self._cores, self._metrics = upstreams, cores, metrics
        self.draining = False
        self.loopback = False
        self.active = 0
        self.connections = 0
        self.held_bytes = 0

    @property
    def ready(self) -> bool:
        """Whether every process is ready."""
        return all(upstream.ready for upstream in self._upstreams)

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Client(self)

    async def respond(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes, *, admitted: bool = False
    ) -> bytes:
        """Return the response to one request, as bytes; errors become responses too.

        admitted: it was in flight before the drain began, and is served all the same.
        """
        self.active += 1
        try:
            if self.loopback and (error := refusal(headers)) is not None:
                return error_bytes(error)
            path = url.partition(b"?")[0]
            if path == b"/ping" and method in _READS:
                return self._ping()
            if self.draining and not admitted:
                return error_bytes(draining_error())
            if path == b"/metrics" and method in _READS:
                return _response(200, await self._metrics(), CONTENT_TYPE)
            return await self._forward(path, method, _request(method, url, headers, body))
        except ServingError as error:
            return error_bytes(error)
        except Exception as error:
            logger.error("a request failed\n%s", where_it_failed(error))
            return error_bytes(
                ServingError(500, "internal_error", "the reverse proxy failed on this request; see the container's log")
            )
        finally:
            self.active -= 1

    def _ping(self) -> bytes:
        if self.draining:
            return error_bytes(draining_error())
        if self.ready:
            return _response(200, b"{}")
        missing = ", ".join(upstream.name for upstream in self._upstreams if not upstream.ready)
        return error_bytes(ServingError(503, "not_ready", f"not ready: {missing}", retry_after_seconds=1))

    async def _forward(self, path: bytes, method: bytes, request: bytes) -> bytes:
        tried: set[Upstream] = set()
        while True:
            upstream = self._choose(path, method, tried)
            try:
                return (await upstream.ask(request, _RESPONSE_SECONDS)).raw
            except NoAnswerError as error:
                raise ServingError(504, "timeout", f"{error}; ask for less at once") from error
            except UpstreamError as error:
                # Inference has no side effects, so another process may handle the request; but only one, since the
                # request itself may be what crashes them.
                if tried:
                    raise _none_ready() from error
                tried.add(upstream)

    def _choose(self, path: bytes, method: bytes, tried: set[Upstream]) -> Upstream:
        if path.startswith(_PREDICTIONS):
            core = path[len(_PREDICTIONS) :].partition(b"/")[0]
            if core not in self._cores:
                there = ", ".join(sorted(name.decode() for name in self._cores))
                raise ServingError(
                    404, "not_found", f"no NeuronCore {core.decode(errors='replace')}: there are {there}"
                )
            candidates = [self._cores[core]]
        elif path == b"/invocations":
            candidates = list(self._upstreams)
        else:
            raise ServingError(
                404, "not_found", f"{method.decode()} {path.decode(errors='replace')}: this container serves {ANSWERS}"
            )
        if method != b"POST":
            # The response to a forwarded HEAD would have no body although its length announces one.
            raise ServingError(
                405, "method_not_allowed", f"{method.decode()} {path.decode(errors='replace')}: send POST"
            )
        usable = [upstream for upstream in candidates if upstream.ready and upstream not in tried]
        if not usable:
            raise _none_ready()
        return min(usable, key=lambda upstream: upstream.in_flight)


class _StoppedError(Exception):
    """Stop the parser within a callback."""


@dataclass(slots=True)
class _Request:
    """A request that has arrived. error: the response instead, if any. held: bytes counted for its body."""

    method: bytes
    url: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool
    admitted: bool
    held: int
    error: ServingError | None


class _Client(asyncio.Protocol):
    """One connection: its requests are served in order, one at a time."""

    def __init__(self, proxy: ReverseProxy) -> None:
        self._proxy = proxy
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._waiting: deque[_Request] = deque()
        self._admissions = 0
        self._held_bytes = 0
        self._ended = False
        self._heads = self._silent = 0
        self._in_head = self._in_body = False
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._size = self._held = 0
        self._admitted = False
        self._error: ServingError | None = None
        self._headers: list[tuple[bytes, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.connections += 1
        if self._proxy.connections > (most := max_connections()):
            self._refuse(_overloaded(f"{most} connections are open"))
            return
        self._expect(HEAD_SECONDS)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._proxy.connections -= 1
        self._proxy.active -= self._admissions
        self._proxy.held_bytes -= self._held_bytes
        self._admissions = self._held_bytes = 0
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        heads, in_body = self._heads, self._in_body
        self._silent += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(ServingError(400, "bad_request", "this container speaks HTTP/1.1 only"))
        except httptools.HttpParserError as error:
            self._refuse(ServingError(400, "bad_request", f"no HTTP request: {error}"))
        # An endless line reaches no callback; in a body, it may be of a chunk or a trailer.
        if heads == self._heads and in_body == self._in_body and self._silent > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        self._begin()
        self._in_head = True
        self._expect(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are ignored.
        if self._in_body:
            return
        self._headers.append((name, value))
        if len(self._headers) > MAX_HEADERS:
            self._stop(ServingError(431, "head_too_large", f"the request has over {MAX_HEADERS} headers; send fewer"))
        if name.lower() == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_headers_complete(self) -> None:
        size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > MAX_HEAD_BYTES:
            self._stop(_head_too_large())
        self._in_head, self._in_body, self._silent = False, True, 0
        self._heads += 1
        # In flight while its body arrives, so a drain waits for it.
        if not self._proxy.draining:
            self._admitted = True
            self._admissions += 1
            self._proxy.active += 1

    def on_body(self, body: bytes) -> None:
        if not self._body and not self._size:
            self._expect(BODY_SECONDS)
        self._silent = 0
        self._size += len(body)
        # As the processes do: read and drop a refused body up to a limit; closing earlier would reset the client.
        if self._size > MAX_BODY_BYTES:
            self._drop(_too_large())
            if self._size > DRAIN_SIZES * MAX_BODY_BYTES:
                self._stop(_too_large())
        elif self._error is None and self._hold():
            self._body.append(body)

    def _hold(self) -> bool:
        """Count the bytes of the body that have arrived, or refuse the request if the server holds too many."""
        more = self._size - self._held if self._size > UNCOUNTED_BYTES else 0
        if more and self._proxy.held_bytes + more > _MAX_HELD_BYTES:
            self._drop(_overloaded(f"the bodies of other requests take {self._proxy.held_bytes} bytes"))
            return False
        self._held += more
        self._held_bytes += more
        self._proxy.held_bytes += more
        return True

    def _drop(self, error: ServingError) -> None:
        self._body.clear()
        self._error = self._error or error
        self._release(self._held)
        self._held = 0

    def _release(self, held: int) -> None:
        self._held_bytes -= held
        self._proxy.held_bytes -= held

    def on_message_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._in_body, self._silent = False, 0
        body = b"".join(self._body)
        keep_alive = self._parser.should_keep_alive() and self._size <= MAX_BODY_BYTES
        method = self._parser.get_method()
        self._waiting.append(
            _Request(method, self._url, self._headers, body, keep_alive, self._admitted, self._held, self._error)
        )
        self._begin()
        if self._task is None:
            self._task = self._loop.create_task(self._serve())
        elif self._transport is not None:
            # Stop reading from a client that pipelines requests until it has its responses.
            self._transport.pause_reading()
            if len(self._waiting) > MAX_PIPELINED:
                self._waiting[-1].keep_alive = False
                self._ended = True
                raise _StoppedError

    async def _serve(self) -> None:
        while self._waiting and self._transport is not None:
            request = self._waiting.popleft()
            if request.error is not None:
                response = error_bytes(request.error)
            else:
                response = await self._proxy.respond(
                    request.method, request.url, request.headers, request.body, admitted=request.admitted
                )
            if self._transport is None:
                return
            self._release(request.held)
            if request.admitted:
                self._admissions -= 1
                self._proxy.active -= 1
            head, end, _ = response.partition(_END_OF_HEAD)
            self._transport.write(response if request.method != b"HEAD" else head + end)
            if not request.keep_alive or self._proxy.draining:
                self._ended = True
                self._transport.close()
                return
        self._task = None
        if self._transport is not None:
            self._transport.resume_reading()
            if not self._in_head and not self._in_body:
                self._expect(IDLE_SECONDS)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._write_timer = self._loop.call_later(WRITE_SECONDS, self._transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _expect(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._too_late, seconds)

    def _too_late(self, seconds: float) -> None:
        if self._in_head or self._in_body or self._silent:
            what = "body" if self._in_body else "head"
            self._refuse(ServingError(408, f"{what}_timeout", f"the {what} did not arrive within {seconds:g} s"))
        elif self._task is None and self._transport is not None:
            self._transport.close()

    def _stop(self, error: ServingError) -> None:
        self._refuse(error)
        raise _StoppedError

    def _refuse(self, error: ServingError) -> None:
        """Respond with an error after the requests that have arrived, and close the connection."""
        if self._ended or self._transport is None:
            return
        self._ended = True
        if self._task is None:
            self._transport.write(error_bytes(error))
            self._transport.close()
            return
        self._transport.pause_reading()
        self._waiting.append(_Request(b"", b"", [], b"", False, False, 0, error))


def error_bytes(error: ServingError) -> bytes:
    """Return the whole response for an error."""
    extra = f"Retry-After: {error.retry_after_seconds}\r\n" if error.retry_after_seconds is not None else ""
    return _response(error.status, msgspec.json.encode(error.body()), extra=extra)


def _overloaded(what: str) -> ServingError:
    return ServingError(503, "overloaded", f"{what}; try again later", retry_after_seconds=1)


def _head_too_large() -> ServingError:
    return ServingError(431, "head_too_large", f"the head is over {MAX_HEAD_BYTES} bytes; send less")


def _none_ready() -> ServingError:
    return ServingError(503, "not_ready", "no process is ready; try again later", retry_after_seconds=1)


def _too_large() -> ServingError:
    return ServingError(
        413, "body_too_large", f"the body is over {MAX_BODY_BYTES} bytes, SageMaker's limit; send less at once"
    )


def _response(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def _request(method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the request without hop-by-hop headers."""
    lines = [method + b" " + url + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers if name.lower() not in _HOP_BY_HOP]
    lines.append(b"content-length: %d\r\n\r\n" % len(body))
    return b"\r\n".join(lines) + body
