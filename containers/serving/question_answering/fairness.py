"""Start-time fair queuing: fair turns for requests that share an engine, by the work done for each.

Every request has a virtual time, which advances with the work done for it. The request with the earliest virtual time
runs next. The clock advances by the total work divided by the number of requests: the virtual time of a request with
exactly its fair share.

A new request starts ahead of the others. Its first windows run next, so a request with many windows delays it only by
the work that is already running. The head start is bounded and taken back with the first work, so a large request
still gets its turns when many small ones arrive.

Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996; new flows first as in RFC 8290, 4.2.
"""

from dataclasses import dataclass

HEAD_START = 512.0
"""Head start in tokens: at least the length of the longest window, by which turns can be uneven."""


@dataclass(eq=False, slots=True)
class Turn:
    """A request's virtual time, in tokens."""

    at: float
    fresh: bool = True

    def charge(self, tokens: float) -> None:
        """Count work done for the request."""
        if self.fresh:
            self.fresh = False
            self.at += HEAD_START
        self.at += tokens


class FairClock:
    """The virtual time of a fair share. Not thread-safe: guard it with the lock that guards the requests."""

    def __init__(self) -> None:
        self._now = 0.0

    def start(self) -> Turn:
        """Return the turn of a new request."""
        return Turn(self._now - HEAD_START)

    def advance(self, tokens: float, requests: int) -> None:
        """Count work given to the engine while `requests` requests shared it."""
        self._now += tokens / max(1, requests)
