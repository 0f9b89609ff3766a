"""Requests as bytes on a connection, and their responses, without a client library that would correct the requests."""

import socket
import time
from dataclasses import dataclass, field
from types import TracebackType

import httptools


class WireError(RuntimeError):
    """No complete response; the message says what arrived instead."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with correct framing, whatever else is wrong with it."""

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    # Bodies have up to 6 MiB, too long for a report.
    body: bytes = field(default=b"", repr=False)

    def raw(self) -> bytes:
        """Return the request's bytes, with Host and Content-Length."""
        lines = [f"{self.method} {self.path} HTTP/1.1".encode("latin-1"), b"Host: localhost"]
        lines += [name.encode("latin-1") + b": " + value for name, value in self.headers]
        lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(slots=True)
class Reply:
    """A response. headers: lower-case names. seconds: from the request's first byte to the response's last."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    keep_alive: bool = True


class _Reader:
    """Parser that collects the responses on one connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.replies: list[Reply] = []
        self.current = Reply()
        self.complete_head = False

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise WireError(f"no HTTP response: {error}: {data[:200]!r}") from error

    def on_message_begin(self) -> None:
        self.current, self.complete_head = Reply(), False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.current.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.current.status = self._parser.get_status_code()
        self.current.keep_alive = self._parser.should_keep_alive()
        self.complete_head = True

    def on_body(self, body: bytes) -> None:
        self.current.body += body

    def on_message_complete(self) -> None:
        # An interim response is not the final one.
        if self.current.status >= 200:
            self.replies.append(self.current)


class Connection:
    """A connection that is reopened after the server has closed it."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port, self._seconds = port, seconds
        self._socket: socket.socket | None = None

    def ask(self, request: Request) -> Reply:
        """Send a request and return its response; raise WireError if there is none in time."""
        raw, reused = request.raw(), self._socket is not None
        try:
            return self._ask(raw, head=request.method == "HEAD")
        except WireError as error:
            # A server may close a kept connection just as it is used again.
            if not (reused and "without a byte" in str(error)):
                raise
            return self._ask(raw, head=request.method == "HEAD")

    def _ask(self, raw: bytes, *, head: bool) -> Reply:
        began = time.monotonic()
        reader = _Reader()
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=self._seconds)
            refused = self._send(raw)
            while not reader.replies and not (head and reader.complete_head and reader.current.status >= 200):
                left = began + self._seconds - time.monotonic()
                if left <= 0:
                    raise WireError(f"no response within {self._seconds:g} s")
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 20)
                if not data:
                    where = "in the middle" if reader.complete_head else "without a byte"
                    raise WireError(f"the connection ended {where} of a response")
                reader.feed(data)
        except (WireError, OSError) as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise WireError(f"no response within {self._seconds:g} s") from error
            if isinstance(error, WireError):
                raise
            raise WireError(f"the connection ended without a byte of a response: {error}") from error
        reply = reader.replies[0] if reader.replies else reader.current
        reply.seconds = time.monotonic() - began
        if refused or head or not reply.keep_alive:
            self.close()
        return reply

    def _send(self, raw: bytes) -> bool:
        """Send all bytes; return whether the server stopped reading early, as it may after responding."""
        assert self._socket is not None
        self._socket.settimeout(self._seconds)
        try:
            self._socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def replies_to(connection: socket.socket, data: bytes, seconds: float, *, end: bool) -> list[Reply]:
    """Return every complete response to bytes that may not be a valid request, until the server closes or times out.

    seconds: timeout. end: whether to shut down the sending side after the bytes. Raises WireError for invalid response
    bytes, and, with `end`, for a server that neither responds nor closes.
    """
    reader = _Reader()
    deadline = time.monotonic() + seconds
    try:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            received = connection.recv(1 << 20)
            if not received:
                return reader.replies
            reader.feed(received)
    except TimeoutError:
        pass
    except OSError:
        return reader.replies
    if end:
        raise WireError(f"neither a response nor the end of the connection within {seconds:g} s")
    return reader.replies
