"""`python -m load_tests.stub`: a server with known behavior, for checking a load generator.

It answers requests one at a time, each after a fixed service time, and periodically stalls: an M/D/1 queue with
stalls. It accepts POST on any path, including InvokeEndpoint's, and ignores signatures.
"""

import asyncio
import json
import re
import sys
from dataclasses import dataclass, field
from typing import Annotated, cast

import typer

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Behavior:
    """Timing model of the server.

    service: service time in seconds, so the server answers at most 1/service requests per second; 0 means no limit.
    every, stall: every `every` seconds, the server starts nothing for `stall` seconds.
    free: time at which the server finishes its current work.
    """

    service: float = 0.0
    every: float = 10.0
    stall: float = 0.0
    free: float = field(default=0.0)

    def answered_at(self, now: float) -> float:
        """Return when a request that arrives now is answered, in seconds since the server's start."""
        begin = max(now, self.free)
        # The first stall begins half a period after the start.
        since = (begin + self.every / 2) % self.every
        if since < self.stall:
            begin += self.stall - since
        self.free = begin + self.service
        return self.free


class _Connection(asyncio.Protocol):
    def __init__(self, behavior: Behavior, refused: bytes, began: float) -> None:
        self._behavior, self._refused, self._began = behavior, refused, began
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._respond(head)

    def _respond(self, head: bytes) -> None:
        refuse = self._refused and self._refused in head.partition(b"\r\n")[0]
        now = self._loop.time() - self._began
        answered = now if refuse else self._behavior.answered_at(now)
        if answered <= now:
            self._write(_REFUSAL if refuse else _RESPONSE)
        else:
            self._loop.call_later(answered - now, self._write, _RESPONSE)

    def _write(self, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)


async def _serve(behavior: Behavior, refused: bytes, port: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    server = await loop.create_server(lambda: _Connection(behavior, refused, began), "127.0.0.1", port, backlog=1024)
    json.dump({"port": server.sockets[0].getsockname()[1]}, sys.stdout)
    print(flush=True)
    await server.serve_forever()


def main(
    service: Annotated[float, typer.Option(min=0, help="service time of a request, in seconds")] = 0.0,
    every: Annotated[float, typer.Option(min=0.001, help="seconds from the start of one stall to the next")] = 10.0,
    stall: Annotated[float, typer.Option(min=0, help="duration of a stall, in seconds")] = 0.0,
    refuse: Annotated[str, typer.Option(help="answer 503 to paths that contain this text")] = "",
    port: Annotated[int, typer.Option(min=0, help="0 picks a free port and prints it as JSON")] = 0,
) -> None:
    """Serve on loopback until terminated."""
    if stall >= every:
        print(f"error: stall is {stall:g} and every is {every:g}: stall must be shorter than every", file=sys.stderr)
        raise typer.Exit(2)
    asyncio.run(_serve(Behavior(service, every, stall), refuse.encode(), port))


if __name__ == "__main__":
    typer.run(main)
