"""What is measured: both servers under the same closed loop, in turns so that a drifting machine favours neither."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.closed_loop import closed_loop
from benchmarks.neuron_encoder.servers import Server
from benchmarks.recorded import percentile_ms

TURN_SECONDS = 3.0
SETTLE_SECONDS = 0.5
"""Of each turn, before anything counts: the other server has just had the processor."""
WARM_UP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one server: answered requests, and what the cores, its processes and the client took of it.

    busy: seconds by core. seconds: how long it lasted. latencies: seconds.
    """

    latencies: tuple[float, ...]
    seconds: float
    busy: tuple[float, ...]
    server_cpu: float
    client_cpu: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All turns of one server."""

    turns: tuple[Turn, ...]

    @property
    def seconds(self) -> float:
        """That counted."""
        return sum(turn.seconds for turn in self.turns)

    @property
    def requests(self) -> int:
        """Answered."""
        return sum(len(turn.latencies) for turn in self.turns)

    @property
    def requests_per_second(self) -> float:
        """Over all turns."""
        return self.requests / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """Over all turns, in milliseconds, by statistics.quantiles' inclusive method."""
        latencies = [latency for turn in self.turns for latency in turn.latencies]
        return percentile_ms(latencies, percent)

    @property
    def utilization(self) -> tuple[float, ...]:
        """Share of the time that each core was busy, in percent."""
        cores = zip(*(turn.busy for turn in self.turns), strict=True)
        return tuple(100 * sum(core) / self.seconds for core in cores)

    @property
    def server_cpu_ms(self) -> float:
        """Processor time of the server for a request."""
        return 1000 * sum(turn.server_cpu for turn in self.turns) / self.requests

    @property
    def client_cpu_ms(self) -> float:
        """Processor time of the client for a request."""
        return 1000 * sum(turn.client_cpu for turn in self.turns) / self.requests


def measure(
    servers: Sequence[Server], *, connections: int, turns: int, on_turn: Callable[[], object]
) -> list[Measured]:
    """Every server in turn, `turns` times; raises BenchmarkError."""
    for server in servers:
        closed_loop(server.targets, connections=connections, seconds=WARM_UP_SECONDS, warm_up=0)
    found: list[list[Turn]] = [[] for _ in servers]
    for _ in range(turns):
        for server, taken in zip(servers, found, strict=True):
            taken.append(_turn(server, connections))
            on_turn()
    return [Measured(tuple(taken)) for taken in found]


def _turn(server: Server, connections: int) -> Turn:
    closed_loop(server.targets, connections=connections, seconds=SETTLE_SECONDS, warm_up=0)
    busy, server_cpu, client_cpu = server.busy(), server.cpu_seconds(), time.process_time()
    began = time.perf_counter()
    answered = closed_loop(server.targets, connections=connections, seconds=TURN_SECONDS, warm_up=0)
    seconds, client_cpu = time.perf_counter() - began, time.process_time() - client_cpu
    server_cpu = server.cpu_seconds() - server_cpu
    after = server.busy()
    return Turn(
        tuple(each.latency for target in answered.values() for each in target),
        seconds,
        tuple(now - before for before, now in zip(busy, after, strict=True)),
        server_cpu,
        client_cpu,
    )
