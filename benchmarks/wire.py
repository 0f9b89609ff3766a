"""Plain HTTP over a socket, for clients that share the processor with the server they measure."""

import socket

from benchmarks.errors import BenchmarkError

TIMEOUT_SECONDS = 30.0
_HEAD_END, _LENGTH = b"\r\n\r\n", b"content-length:"


def post(path: str, body: bytes, content_type: str) -> bytes:
    """Return a complete request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def connect(port: int, name: str) -> socket.socket:
    """Open a loopback connection without Nagle's delay; raises BenchmarkError."""
    try:
        opened = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    except OSError as error:
        raise BenchmarkError(f"{name} refused the connection: {error}") from error
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def response_status(received: bytes | bytearray) -> int | None:
    """Return the status of a response once it is complete, else None; raises BenchmarkError without Content-Length."""
    head_end = received.find(_HEAD_END)
    if head_end < 0:
        return None
    head = bytes(received[:head_end]).lower()
    position = head.find(_LENGTH)
    if position < 0:
        raise BenchmarkError(f"a response has no Content-Length: {head[:200].decode(errors='replace')!r}")
    length = int(head[position + len(_LENGTH) :].partition(b"\r\n")[0])
    return int(head[9:12]) if len(received) >= head_end + len(_HEAD_END) + length else None
