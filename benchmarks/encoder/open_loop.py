"""Send requests on a schedule, regardless of the server, from one low-overhead thread that shares its cores."""

import random
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.errors import BenchmarkError
from benchmarks.wire import connect, response_status

_MOST_CONNECTIONS = 1000
_LAST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of one request.

    status: HTTP status; 0 without a response.
    latency: seconds from the time at which the request was due to its complete response.
    """

    status: int
    latency: float
    late: float


@dataclass(eq=False, slots=True)
class _Connection:
    socket: socket.socket
    due: float = 0.0
    sent: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the seconds after the start at which requests are due, at exponential intervals."""
    intervals = random.Random(seed)
    due = intervals.expovariate(rate)
    while due < seconds:
        yield due
        due += intervals.expovariate(rate)


def poisson(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int) -> list[Answered]:
    """Send requests in turn at exponential intervals; each only waits for a connection of its own.

    rate: requests per second.

    Raises BenchmarkError if the server accepts no connection, or if so many requests stay unanswered that no
    connection is left.
    """
    times = arrivals(rate, seconds, seed)
    idle: list[_Connection] = []
    answered: list[Answered] = []
    waiting: set[_Connection] = set()
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        due, number, end = began + next(times, seconds), 0, began + seconds
        try:
            while due < end or waiting:
                now = time.perf_counter()
                if now > end + _LAST_SECONDS:
                    answered += [Answered(0, now - each.due, each.sent - each.due) for each in waiting]
                    break
                while due <= now and due < end:
                    connection = idle.pop() if idle else _connect(port, selector, len(waiting))
                    connection.due, connection.sent = due, time.perf_counter()
                    connection.received.clear()
                    connection.socket.sendall(requests[number % len(requests)])
                    waiting.add(connection)
                    number += 1
                    due = began + next(times, seconds)
                for key, _ in selector.select(max(0.0, min(due, end) - time.perf_counter()) if due < end else 0.1):
                    _receive(key.data, selector, waiting, idle, answered)
        finally:
            for connection in (*idle, *waiting):
                connection.socket.close()
    return answered


def _connect(port: int, selector: selectors.BaseSelector, open_now: int) -> _Connection:
    if open_now >= _MOST_CONNECTIONS:
        raise BenchmarkError(f"{open_now} requests wait for an answer: the server neither answers nor refuses")
    opened = connect(port, f"port {port}")
    connection = _Connection(opened)
    selector.register(opened, selectors.EVENT_READ, connection)
    return connection


def _receive(
    connection: _Connection,
    selector: selectors.BaseSelector,
    waiting: set[_Connection],
    idle: list[_Connection],
    answered: list[Answered],
) -> None:
    try:
        data = connection.socket.recv(65536)
    except ConnectionResetError:
        data = b""
    connection.received += data
    status = response_status(connection.received)
    if not data or status is not None:
        now = time.perf_counter()
        if connection in waiting:
            waiting.discard(connection)
            answered.append(Answered(status or 0, now - connection.due, connection.sent - connection.due))
        elif connection in idle:
            idle.remove(connection)
        if data:
            idle.append(connection)
        else:
            selector.unregister(connection.socket)
            connection.socket.close()
