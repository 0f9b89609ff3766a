"""Fair turns for requests that share an engine, by the work that each has had: start-time fair queuing.

Every request has a virtual time, which its own work advances. The one whose time is the earliest is next. The clock
advances by the work of all over the number of requests, so that it is what a request with a fair share would have.

A request that has had no work yet is ahead of those that have: its first windows run next, and a request of many
windows delays it by no more than what runs already. The head start is bounded and taken back with the first work, so
a large request gets its turns however many small ones come.

Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996; new flows first as in RFC 8290, 4.2.
"""

from dataclasses import dataclass

HEAD_START = 512.0
"""Tokens: at least what the longest window has, by which turns are uneven."""


@dataclass(eq=False, slots=True)
class Turn:
    """A request's virtual time, in tokens."""

    at: float
    fresh: bool = True

    def charge(self, tokens: float) -> None:
        """Count work that the request was given."""
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
        """Count work that was given to the engine while so many requests shared it."""
        self._now += tokens / max(1, requests)
