"""SageMaker's one port in front of the processes: every request goes, as it came, to the process with least to do.

It parses no more of a request than its head and where it ends, and passes the response's bytes on, since what it costs
is taken from the tokenizers' processors.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import cast

import httptools
import msgspec

from containers.bert_neuron.app import ANSWERS, draining_error
from containers.bert_neuron.metrics import CONTENT_TYPE
from containers.bert_neuron.upstream import NoAnswerError, Upstream, UpstreamError
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError

_PREDICTIONS = b"/predictions_neuron_core_"
_MAX_HEAD_BYTES = 64 * 1024
_DRAIN_BYTES = 8 * MAX_BODY_BYTES
_REQUEST_SECONDS = 30.0
_ANSWER_SECONDS = 60.0
"""SageMaker waits no longer for a container (InvokeEndpoint)."""
_IDLE_SECONDS = 75.0
_HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"expect", b"upgrade", b"te"}
_READS = (b"GET", b"HEAD")
_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Front:
    """What all connections share.

    upstreams: the processes. cores: by the number in a published path, the process that has that NeuronCore.
    metrics: the text for Prometheus.
    """

    def __init__(
        self, upstreams: Sequence[Upstream], cores: dict[bytes, Upstream], metrics: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._upstreams, self._cores, self._metrics = upstreams, cores, metrics
        self.draining = False
        self.active = 0

    @property
    def ready(self) -> bool:
        """Whether every process is ready."""
        return all(upstream.ready for upstream in self._upstreams)

    def connection(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Client(self)

    async def respond(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes, *, admitted: bool = False
    ) -> bytes:
        """The response to one request, as bytes; every error becomes one.

        admitted: it was in flight before the drain began, and is answered all the same.
        """
        self.active += 1
        try:
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
                return (await upstream.ask(request, _ANSWER_SECONDS)).raw
            except NoAnswerError as error:
                raise ServingError(504, "timeout", f"{error}; ask for less at once") from error
            except UpstreamError as error:
                # An inference changes nothing, so that another process may try; but only one, since the request itself
                # may be what ends them.
                if tried:
                    raise _nobody() from error
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
                404, "not_found", f"{method.decode()} {path.decode(errors='replace')}: this container answers {ANSWERS}"
            )
        if method != b"POST":
            # The answer to a HEAD that went on would have no body where its length says that one follows.
            raise ServingError(405, "method_not_allowed", f"{method.decode()} {path.decode()}: send POST")
        usable = [upstream for upstream in candidates if upstream.ready and upstream not in tried]
        if not usable:
            raise _nobody()
        return min(usable, key=lambda upstream: upstream.in_flight)


class _Client(asyncio.Protocol):
    """One connection: its requests are answered in their order, one at a time."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bool, bool, bool]] = []
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._size = self._head = 0
        self._admitted = False
        self._headers: list[tuple[bytes, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._expect(_IDLE_SECONDS)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._front.active -= self._held
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(ServingError(400, "bad_request", "this container speaks HTTP/1.1 only"))
        except httptools.HttpParserError as error:
            self._refuse(ServingError(400, "bad_request", f"no HTTP request: {error}"))

    def on_message_begin(self) -> None:
        self._begin()
        self._expect(_REQUEST_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._bound_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._bound_head(len(name) + len(value) + 4)
        if name.lower() == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(_CONTINUE)

    def _bound_head(self, size: int) -> None:
        self._head += size
        if self._head > _MAX_HEAD_BYTES:
            self._refuse(ServingError(431, "head_too_large", f"the head is over {_MAX_HEAD_BYTES} bytes; send less"))

    def on_headers_complete(self) -> None:
        # It is in flight while its body arrives, so that a drain waits for it.
        if not self._front.draining:
            self._admitted = True
            self._held += 1
            self._front.active += 1

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        # As the processes do: what is too large is received and dropped up to a bound, or the client sees a reset.
        if self._size <= MAX_BODY_BYTES:
            self._body.append(body)
        elif self._size > _DRAIN_BYTES:
            self._refuse(_too_large())

    def on_message_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        large = self._size > MAX_BODY_BYTES
        body = b"" if large else b"".join(self._body)
        keep_alive = self._parser.should_keep_alive() and not large
        method = self._parser.get_method()
        self._waiting.append((method, self._url, self._headers, body, keep_alive, large, self._admitted))
        self._begin()
        if self._task is None:
            self._task = self._loop.create_task(self._answer())
        elif self._transport is not None:
            # A client that does not wait for answers is not read from until it has them.
            self._transport.pause_reading()

    async def _answer(self) -> None:
        while self._waiting and self._transport is not None:
            method, url, headers, body, keep_alive, large, admitted = self._waiting.pop(0)
            if large:
                response = error_bytes(_too_large())
            else:
                response = await self._front.respond(method, url, headers, body, admitted=admitted)
            if self._transport is None:
                return
            if admitted:
                self._held -= 1
                self._front.active -= 1
            self._transport.write(response if method != b"HEAD" else response.partition(_END_OF_HEAD)[0] + _END_OF_HEAD)
            if not keep_alive or self._front.draining:
                self._transport.close()
                return
        self._task = None
        if self._transport is not None:
            self._transport.resume_reading()
            self._expect(_IDLE_SECONDS)

    def _expect(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._too_late, seconds)

    def _too_late(self, seconds: float) -> None:
        if self._headers or self._url:
            self._refuse(ServingError(408, "body_timeout", f"the request did not arrive within {seconds:g} s"))
        elif self._task is None and self._transport is not None:
            self._transport.close()

    def _refuse(self, error: ServingError) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(error_bytes(error))
            self._transport.close()


def error_bytes(error: ServingError) -> bytes:
    """The whole response for an error."""
    extra = f"Retry-After: {error.retry_after_seconds}\r\n" if error.retry_after_seconds is not None else ""
    return _response(error.status, msgspec.json.encode(error.body()), extra=extra)


def _nobody() -> ServingError:
    return ServingError(503, "not_ready", "no process can answer; try again later", retry_after_seconds=1)


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
    """The request anew, without what was meant for this connection only."""
    lines = [method + b" " + url + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers if name.lower() not in _HOP_BY_HOP]
    lines.append(b"content-length: %d\r\n\r\n" % len(body))
    return b"\r\n".join(lines) + body
