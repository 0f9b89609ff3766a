"""A client that sends small requests while others send hostile ones, and watches the servers' memory."""

import threading
import time

from tests.fuzz.servers import Running
from tests.fuzz.wire import Connection, Request, WireError

NEIGHBOR_SECONDS = 10.0
"""Longest that a small request may take beside hostile ones: what is looked for are requests that wait for them all."""
_PAUSE_SECONDS = 0.05
_PING = Request("GET", "/ping")


class Neighbor(threading.Thread):
    """Asks in turn /ping and a request that is always right, until it is left.

    worst: seconds of its slowest response. peak_mib: the most that the server's processes had resident. wrong: a
    response that it may not get, or none in time.
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
        """Ask until it is left."""
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
            # The main client reports a server that has died, and starts it again.
            if self._running.alive and self._running.port == port:
                self.wrong = self.wrong or f"a neighbor's {request.path}: {error}"
            return
        self.worst = max(self.worst, time.monotonic() - began)
        refused = reply.status == 503 and "retry-after" in reply.headers and request is not _PING
        if reply.status != 200 and not refused:
            self.wrong = self.wrong or f"a neighbor's {request.path} was answered {reply.status}: {reply.body[:200]!r}"
