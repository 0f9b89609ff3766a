"""Low-overhead client: one thread drives all connections, because it shares the processors with the servers."""

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from benchmarks.errors import BenchmarkError
from benchmarks.wire import TIMEOUT_SECONDS, connect, response_status

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """A server, or a model on one: its port, and complete requests to send in turn."""

    name: str
    port: int
    requests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """Latency of one request in seconds, and when its response was complete, in seconds of time.perf_counter()."""

    latency: float
    at: float


@dataclass(eq=False, slots=True)
class _Connection:
    target: Target
    socket: socket.socket
    next_request: int
    sent: float = 0.0
    attempts: int = 1
    received: bytearray = field(default_factory=bytearray)


def closed_loop(
    targets: Sequence[Target], *, connections: int, seconds: float, warm_up: float
) -> dict[str, list[Answered]]:
    """Run connections that each send a request once the previous one has its response; spread them evenly over targets.

    Returns the requests answered after the warm-up, by target; times are in seconds. Raises BenchmarkError for an
    invalid response, and if a server does not respond.
    """
    answered: dict[str, list[Answered]] = {target.name: [] for target in targets}
    with selectors.DefaultSelector() as selector:
        opened = [_open(targets[index % len(targets)], index, selector) for index in range(connections)]
        try:
            began = time.perf_counter()
            for connection in opened:
                _send(connection)
            counted, end = began + warm_up, began + warm_up + seconds
            while (now := time.perf_counter()) < end:
                events = selector.select(TIMEOUT_SECONDS)
                if not events:
                    raise BenchmarkError(f"no response within {TIMEOUT_SECONDS:.0f} s")
                for key, _ in events:
                    connection = key.data
                    if _receive(connection, selector):
                        now = time.perf_counter()
                        if now >= counted:
                            answered[connection.target.name].append(Answered(now - connection.sent, now))
                        _send(connection)
        finally:
            for connection in opened:
                connection.socket.close()
    return answered


def _open(target: Target, first_request: int, selector: selectors.BaseSelector) -> _Connection:
    connection = _Connection(target, connect(target.port, target.name), first_request)
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection


def _again(connection: _Connection, selector: selectors.BaseSelector) -> None:
    """Resend the request on a new connection, as clients do when a kept-alive one closes; its latency includes both."""
    if connection.attempts >= _ATTEMPTS:
        raise BenchmarkError(f"{connection.target.name} closed {_ATTEMPTS} connections without a response")
    connection.attempts += 1
    selector.unregister(connection.socket)
    connection.socket.close()
    connection.socket = connect(connection.target.port, connection.target.name)
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    requests = connection.target.requests
    connection.socket.sendall(requests[(connection.next_request - 1) % len(requests)])


def _send(connection: _Connection) -> None:
    requests = connection.target.requests
    connection.received.clear()
    connection.attempts = 1
    connection.sent = time.perf_counter()
    connection.socket.sendall(requests[connection.next_request % len(requests)])
    connection.next_request += 1


def _receive(connection: _Connection, selector: selectors.BaseSelector) -> bool:
    """Receive data and return whether the response is complete."""
    received = connection.received
    try:
        data = connection.socket.recv(65536)
    except ConnectionResetError:
        data = b""
    if not data:
        if received:
            raise BenchmarkError(f"{connection.target.name} closed a connection after {bytes(received[:200])!r}")
        _again(connection, selector)
        return False
    received += data
    status = response_status(received)
    if status not in (None, HTTPStatus.OK):
        raise BenchmarkError(f"{connection.target.name} returned {bytes(received[:300]).decode(errors='replace')!r}")
    return status is not None
