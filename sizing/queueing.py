"""How long requests wait for a server: Erlang C, and Allen and Cunneen's correction for service times of any kind."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_PRECISION = 1e-9


class QueueError(ValueError):
    """A queue cannot be as described; the message names the field, the value and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Requests that come at random (Poisson) to servers that share one line, first come first served.

    servers: 1 or more. rate: requests a second, from 0 on. mean_service: seconds, above 0. scv: squared coefficient of
    variation of the service time, which is variance over squared mean: 0 constant, 1 exponential. Raises QueueError.
    """

    servers: int
    rate: float
    mean_service: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        if self.servers < 1:
            raise QueueError(f"servers is {self.servers}: give 1 or more")
        if not (self.mean_service > 0 and math.isfinite(self.mean_service)):
            raise QueueError(f"mean_service is {self.mean_service}: give seconds above 0")
        for field in ("rate", "scv"):
            value = getattr(self, field)
            if not (value >= 0 and math.isfinite(value)):
                raise QueueError(f"{field} is {value}: give a number from 0 on")

    @property
    def offered(self) -> float:
        """Servers that are busy on average: rate times mean service time."""
        return self.rate * self.mean_service

    @property
    def utilisation(self) -> float:
        """Share of each server's time that is taken; from 1 on the line grows without end."""
        return self.offered / self.servers

    @property
    def waiting_probability(self) -> float:
        """Share of requests that find every server busy: Erlang C, exact for exponential service; 1 when saturated."""
        return erlang_c(self.servers, self.offered)

    @property
    def mean_wait_of_waiting(self) -> float:
        """Mean wait in seconds of those that wait; infinite when saturated.

        (1 + scv) / 2 of what it is with exponential service, 1 / (servers / mean_service - rate). Source: Allen,
        "Probability, Statistics, and Queueing Theory", 2nd ed. 1990, the Allen-Cunneen approximation of G/G/c; with
        one server it is Pollaczek's and Khinchine's exact formula.
        """
        if self.utilisation >= 1:
            return math.inf
        return (1 + self.scv) / 2 / (self.servers / self.mean_service - self.rate)

    @property
    def mean_wait(self) -> float:
        """Mean wait of all requests in seconds; infinite when saturated."""
        return self.waiting_probability * self.mean_wait_of_waiting if self.rate else 0.0

    @property
    def mean_response(self) -> float:
        """Mean wait and service in seconds."""
        return self.mean_wait + self.mean_service

    def wait_exceeds(self, seconds: float) -> float:
        """Share of requests that wait longer, the wait of the waiting taken as exponential: exact for M/M/c."""
        if seconds < 0 or self.utilisation >= 1:
            return 1.0
        return self.waiting_probability * math.exp(-seconds / self.mean_wait_of_waiting)

    def response_quantile(self, probability: float, service: Sequence[float]) -> float:
        """The response time in seconds that this share of requests, 0 to below 1, does not exceed.

        service: service times in seconds that are equally likely, such as quantiles at evenly spread probabilities. A
        request's wait is taken as independent of its service. Infinite when saturated. Raises QueueError.
        """
        if not 0 <= probability < 1:
            raise QueueError(f"probability is {probability}: give a share from 0 to below 1, such as 0.99")
        if not service:
            raise QueueError("service is empty: give the service times")
        if self.utilisation >= 1:
            return math.inf
        beyond, waiting, scale = 1 - probability, self.waiting_probability, self.mean_wait_of_waiting

        def exceeds(seconds: float) -> float:
            total = sum(
                1.0 if seconds < each else waiting * math.exp(-(seconds - each) / scale) if waiting else 0.0
                for each in service
            )
            return total / len(service)

        low, high = 0.0, max(service)
        while exceeds(high) > beyond:
            low, high = high, 2 * high
        while high - low > _PRECISION * high and low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if exceeds(middle) > beyond else (low, middle)
        return high


def erlang_c(servers: int, offered: float) -> float:
    """Probability that all servers are busy in M/M/c, by the stable recursion over Erlang B; 1 from saturation on.

    offered: servers busy on average. Source: Cooper, "Introduction to Queueing Theory", 2nd ed. 1981, chapter 3.
    """
    if offered <= 0:
        return 0.0
    if offered >= servers:
        return 1.0
    inverse_blocking = 1.0
    for busy in range(1, servers + 1):
        inverse_blocking = 1 + inverse_blocking * busy / offered
        if math.isinf(inverse_blocking):
            return 0.0
    utilisation = offered / servers
    return 1 / (inverse_blocking * (1 - utilisation) + utilisation)
