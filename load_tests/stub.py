"""`python -m load_tests.stub`: a server of known behaviour, to check a load generator against.

It answers one request after another, each after a fixed time, and every so often none at all for a while: an M/D/1
queue that stalls. It takes POST on any path, InvokeEndpoint's among them, and does not look at signatures.
"""

import asyncio
import json
import re
import sys
from dataclasses import dataclass, field
from typing import Annotated, cast

import typer

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Behaviour:
    """When a request is answered.

    service: seconds that a request takes the server alone, so that it answers 1/service a second at the most; 0 takes
    none. every, stall: every so many seconds it begins nothing for so long. free: when it is done with what it has.
    """

    service: float = 0.0
    every: float = 10.0
    stall: float = 0.0
    free: float = field(default=0.0)

    def answered_at(self, now: float) -> float:
        """When a request that arrives now, in seconds since the server's start, is answered."""
        begin = max(now, self.free)
        # The first stall begins half a period after the start.
        since = (begin + self.every / 2) % self.every
        if since < self.stall:
            begin += self.stall - since
        self.free = begin + self.service
        return self.free


class _Connection(asyncio.Protocol):
    def __init__(self, behaviour: Behaviour, refused: bytes, began: float) -> None:
        self._behaviour, self._refused, self._began = behaviour, refused, began
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
        answered = now if refuse else self._behaviour.answered_at(now)
        if answered <= now:
            self._answer(_REFUSAL if refuse else _ANSWER)
        else:
            self._loop.call_later(answered - now, self._answer, _ANSWER)

    def _answer(self, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)


async def _serve(behaviour: Behaviour, refused: bytes, port: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    server = await loop.create_server(lambda: _Connection(behaviour, refused, began), "127.0.0.1", port, backlog=1024)
    json.dump({"port": server.sockets[0].getsockname()[1]}, sys.stdout)
    print(flush=True)
    await server.serve_forever()


def main(
    service: Annotated[float, typer.Option(min=0, help="seconds that a request takes")] = 0.0,
    every: Annotated[float, typer.Option(min=0.001, help="seconds from one stall to the next")] = 10.0,
    stall: Annotated[float, typer.Option(min=0, help="seconds that a stall lasts")] = 0.0,
    refuse: Annotated[str, typer.Option(help="answer 503 to paths with this in them")] = "",
    port: Annotated[int, typer.Option(min=0, help="0 takes a free one and prints it as JSON")] = 0,
) -> None:
    """Serves on loopback until it is ended."""
    if stall >= every:
        print(f"error: stall is {stall:g} and every {every:g}: a stall must be the shorter", file=sys.stderr)
        raise typer.Exit(2)
    asyncio.run(_serve(Behaviour(service, every, stall), refuse.encode(), port))


if __name__ == "__main__":
    typer.run(main)
