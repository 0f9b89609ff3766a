"""Waiting times in a queue: Erlang C, with Allen and Cunneen's correction for general service times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_PRECISION = 1e-9


class QueueError(ValueError):
    """A queue is invalid; the message names the field, the value and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Poisson arrivals at servers that share one line, first come first served. Raises QueueError.

    servers: 1 or more.
    rate: requests per second, 0 or more.
    mean_service: mean service time in seconds, above 0.
    scv: squared coefficient of variation of the service time, variance over squared mean: 0 constant, 1 exponential.
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
                raise QueueError(f"{field} is {value}: give a number from 0")

    @property
    def offered(self) -> float:
        """Average number of busy servers, if there are enough: rate times mean service time."""
        return self.rate * self.mean_service

    @property
    def utilization(self) -> float:
        """Fraction of each server's time in use; from 1, the line grows without bound."""
        return self.offered / self.servers

    @property
    def waiting_probability(self) -> float:
        """Fraction of requests that find every server busy: Erlang C, exact for exponential service; 1 if saturated."""
        return erlang_c(self.servers, self.offered)

    @property
    def mean_wait_of_waiting(self) -> float:
        """Mean wait in seconds of the requests that wait; infinite when saturated.

        It is (1 + scv) / 2 of the wait with exponential service, 1 / (servers / mean_service - rate). Source: Allen,
        "Probability, Statistics, and Queueing Theory", 2nd ed. 1990, the Allen-Cunneen approximation of G/G/c. With
        one server it is the exact Pollaczek-Khinchine formula.
        """
        if self.utilization >= 1:
            return math.inf
        return (1 + self.scv) / 2 / (self.servers / self.mean_service - self.rate)

    @property
    def mean_wait(self) -> float:
        """Mean wait of all requests in seconds; infinite when saturated."""
        return self.waiting_probability * self.mean_wait_of_waiting if self.rate else 0.0

    @property
    def mean_response(self) -> float:
        """Mean wait plus mean service time, in seconds."""
        return self.mean_wait + self.mean_service

    def wait_exceeds(self, seconds: float) -> float:
        """Return the fraction of requests that wait longer, assuming exponential waits: exact for M/M/c."""
        if seconds < 0 or self.utilization >= 1:
            return 1.0
        return self.waiting_probability * math.exp(-seconds / self.mean_wait_of_waiting)

    def response_quantile(self, probability: float, service: Sequence[float]) -> float:
        """Return a quantile of the response time in seconds; infinite when saturated. Raises QueueError.

        probability: 0 to below 1.
        service: equally likely service times in seconds, such as quantiles at evenly spaced probabilities. A request's
            wait is assumed to be independent of its service time.
        """
        if not 0 <= probability < 1:
            raise QueueError(f"probability is {probability}: give a number from 0 to below 1, such as 0.99")
        if not service:
            raise QueueError("service is empty: give the service times")
        if self.utilization >= 1:
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
    """Return the probability that all servers are busy in M/M/c; 1 when saturated.

    It uses the numerically stable recursion over Erlang B.
    offered: average number of busy servers. Source: Cooper, "Introduction to Queueing Theory", 2nd ed. 1981, chapter 3.
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
    utilization = offered / servers
    return 1 / (inverse_blocking * (1 - utilization) + utilization)
