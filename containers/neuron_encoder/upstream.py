"""Connections of the front to the processes behind it: one request at a time on each, kept alive between."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

_CONNECT_SECONDS = 1.0


class UpstreamError(ConnectionError):
    """A process did not answer: it is not there, or its connection ended before the answer did."""


class NoAnswerError(UpstreamError):
    """A process took the request and did not answer in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response: its status, the bytes as they came, and whether the connection stays open after it."""

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
        # uvloop's is none of asyncio's classes.
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
            self._fail(f"no HTTP response: {error}")

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        raw = b"".join(self._chunks)
        self._chunks.clear()
        if answer is not None and not answer.done():
            answer.set_result(Reply(self._parser.get_status_code(), raw, self._parser.should_keep_alive()))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection ended: {error or 'closed'}")

    def _fail(self, reason: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(UpstreamError(reason))
        if self.transport is not None:
            self.transport.close()


class Upstream:
    """One process: its port on the loopback interface, its idle connections, and how many requests it has in work."""

    def __init__(self, name: str, port: Callable[[], int]) -> None:
        self.name = name
        self.ready = False
        self.in_flight = 0
        self._port = port
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes, seconds: float) -> Reply:
        """Sends a whole request and returns the whole response; raises UpstreamError, NoAnswerError after `seconds`."""
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
            raise NoAnswerError(f"{self.name} did not answer within {seconds:g} s") from error
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._close(self._idle.pop())

    async def _exchange(self, request: bytes) -> tuple[_Connection, Reply]:
        while True:
            connection, used = await self._take()
            try:
                return connection, await connection.ask(request)
            except UpstreamError:
                # An idle connection may be closed by the other side at the moment it is used again.
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
            raise UpstreamError(f"{self.name} does not take connections: {error}") from error
        return connection

    @staticmethod
    def _close(connection: _Connection) -> None:
        if connection.transport is not None:
            with contextlib.suppress(OSError):
                connection.transport.close()
