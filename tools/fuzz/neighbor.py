"""Client that sends small requests while others send hostile ones, and watches the server's memory."""

import threading
import time

from tools.fuzz.servers import Running
from tools.fuzz.wire import Connection, Request, WireError

NEIGHBOR_SECONDS = 10.0
"""Longest response time of a small request among hostile ones, to catch requests that wait for all of those."""
_PAUSE_SECONDS = 0.05
_PING = Request("GET", "/ping")


class Neighbor(threading.Thread):
    """Client that alternates /ping and a valid request until its block ends.

    worst: slowest response in seconds. peak_mib: highest resident memory of the server's processes. wrong: a response
    that violates the contract, or none in time.
    """

    def __init__(self, running: Running, request: Request) -> None:
        super().__init__(daemon=True)
        self._running, self._request = running, request
        self._left = threading.Event()
        self.worst = self.peak_mib = 0.0
        self.wrong: str | None = None

    def __enter__(self) -> "Neighbor":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self.join()

    def run(self) -> None:
        """Send requests until the block ends."""
        turn = 0
        while not self._left.wait(_PAUSE_SECONDS):
            turn += 1
            self.peak_mib = max(self.peak_mib, self._running.memory_mib())
            self._ask(self._request if turn % 2 else _PING)

    def _ask(self, request: Request) -> None:
        port, began = self._running.port, time.monotonic()
        try:
            with Connection(port, NEIGHBOR_SECONDS) as connection:
                reply = connection.ask(request)
        except WireError as error:
            # The main client reports and restarts a dead server.
            if self._running.alive and self._running.port == port:
                self.wrong = self.wrong or f"a neighbor's {request.path}: {error}"
            return
        self.worst = max(self.worst, time.monotonic() - began)
        refused = reply.status == 503 and "retry-after" in reply.headers and request is not _PING
        if reply.status != 200 and not refused:
            self.wrong = self.wrong or f"a neighbor's {request.path} got {reply.status}: {reply.body[:200]!r}"
