"""Fair turns for requests that share an engine, by the work that each has had: start-time fair queuing.

Every request has a virtual time, which its own work advances. The one whose time is the earliest is next. The clock
advances by the work of all over the number of requests, so that it is what a request with a fair share would have. A
new request starts at the clock, less a head start: it is ahead of those that have had work, and a request of many
windows delays it by no more than what runs already. The head start is the same for all, so a large request gets its
turns however many small ones come.

Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996.
"""

HEAD_START = 512.0
"""Tokens: at least what the longest window has, by which turns are uneven."""


class FairClock:
    """The virtual time, in tokens; whoever holds a lock for the requests holds it for this."""

    def __init__(self) -> None:
        self._now = 0.0

    def start(self) -> float:
        """Return the virtual time of a new request."""
        return self._now - HEAD_START

    def advance(self, tokens: float, requests: int) -> None:
        """Count work that was given to the engine while so many requests shared it."""
        self._now += tokens / max(1, requests)
