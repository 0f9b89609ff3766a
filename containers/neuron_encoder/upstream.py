"""Keep-alive connections from the reverse proxy to the processes behind it, each with one request at a time."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

_CONNECT_SECONDS = 1.0


class UpstreamError(ConnectionError):
    """A process that did not respond: it is not running, or its connection closed before the end of the response."""


class NoAnswerError(UpstreamError):
    """A process that accepted the request and did not respond in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response.

    raw: bytes of the response as received.
    keep_alive: whether the connection stays open.
    """

    status: int
    raw: bytes
    keep_alive: bool


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._answer: asyncio.Future[Reply] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is not a subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the response is not HTTP: {error}")

    def on_message_complete(self) -> None:
        response, self._answer = self._answer, None
        raw = b"".join(self._chunks)
        self._chunks.clear()
        if response is not None and not response.done():
            response.set_result(Reply(self._parser.get_status_code(), raw, self._parser.should_keep_alive()))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error or 'closed'}")

    def _fail(self, reason: str) -> None:
        response, self._answer = self._answer, None
        if response is not None and not response.done():
            response.set_exception(UpstreamError(reason))
        if self.transport is not None:
            self.transport.close()


class Upstream:
    """One process: its port on the loopback interface, its idle connections, and its number of requests in flight."""

    def __init__(self, name: str, port: Callable[[], int]) -> None:
        self.name = name
        self.ready = False
        self.in_flight = 0
        self._port = port
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes, seconds: float) -> Reply:
        """Send a whole request and return the whole response.

        Raises UpstreamError, or NoAnswerError after `seconds`.
        """
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                connection, reply = await self._exchange(request)
            if reply.keep_alive:
                self._idle.append(connection)
            else:
                self._close(connection)
            return reply
        except TimeoutError as error:
            raise NoAnswerError(f"{self.name} did not respond within {seconds:g} s") from error
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._close(self._idle.pop())

    async def _exchange(self, request: bytes) -> tuple[_Connection, Reply]:
        while True:
            connection, used = await self._take()
            try:
                return connection, await connection.ask(request)
            except UpstreamError:
                # The process may close an idle connection at the moment it is reused.
                if not used:
                    raise
            except asyncio.CancelledError:
                self._close(connection)
                raise

    async def _take(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection, True
        return await self._connect(), False

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port())
        except (OSError, TimeoutError) as error:
            raise UpstreamError(f"{self.name} does not accept connections: {error}") from error
        return connection

    @staticmethod
    def _close(connection: _Connection) -> None:
        if connection.transport is not None:
            with contextlib.suppress(OSError):
                connection.transport.close()
