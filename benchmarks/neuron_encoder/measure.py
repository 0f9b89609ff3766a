"""Measure both servers under the same closed loop, in alternating turns so machine drift affects both equally."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.closed_loop import closed_loop
from benchmarks.neuron_encoder.programs import Side
from benchmarks.recorded import percentile_ms

TURN_SECONDS = 3.0
SETTLE_SECONDS = 0.5
"""Time at the start of each turn that does not count, because the other server was just using the processor."""
WARM_UP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one server: its answered requests, and the processor time that they took.

    latencies: seconds.
    seconds: duration of the turn.
    busy: busy seconds of each core.
    server_cpu, client_cpu: processor seconds of the server's processes and of the client.
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
        """Total duration of the turns."""
        return sum(turn.seconds for turn in self.turns)

    @property
    def requests(self) -> int:
        """Number of answered requests."""
        return sum(len(turn.latencies) for turn in self.turns)

    @property
    def requests_per_second(self) -> float:
        """Rate over all turns."""
        return self.requests / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """Return a latency percentile over all turns, in milliseconds (statistics.quantiles, inclusive method)."""
        latencies = [latency for turn in self.turns for latency in turn.latencies]
        return percentile_ms(latencies, percent)

    @property
    def utilization(self) -> tuple[float, ...]:
        """Percentage of the time that each core was busy."""
        cores = zip(*(turn.busy for turn in self.turns), strict=True)
        return tuple(100 * sum(core) / self.seconds for core in cores)

    @property
    def server_cpu_ms(self) -> float:
        """Processor time of the server per request, in milliseconds."""
        return 1000 * sum(turn.server_cpu for turn in self.turns) / self.requests

    @property
    def client_cpu_ms(self) -> float:
        """Processor time of the client per request, in milliseconds."""
        return 1000 * sum(turn.client_cpu for turn in self.turns) / self.requests


def measure(sides: Sequence[Side], *, connections: int, turns: int, on_turn: Callable[[], object]) -> list[Measured]:
    """Run every side in turn, `turns` times; raises BenchmarkError."""
    for side in sides:
        closed_loop(side.targets, connections=connections, seconds=WARM_UP_SECONDS, warm_up=0)
    measured: list[list[Turn]] = [[] for _ in sides]
    for _ in range(turns):
        for side, taken in zip(sides, measured, strict=True):
            taken.append(_turn(side, connections))
            on_turn()
    return [Measured(tuple(taken)) for taken in measured]


def _turn(side: Side, connections: int) -> Turn:
    closed_loop(side.targets, connections=connections, seconds=SETTLE_SECONDS, warm_up=0)
    busy, server_cpu, client_cpu = side.busy(), side.cpu_seconds(), time.process_time()
    began = time.perf_counter()
    answered = closed_loop(side.targets, connections=connections, seconds=TURN_SECONDS, warm_up=0)
    seconds, client_cpu = time.perf_counter() - began, time.process_time() - client_cpu
    server_cpu = side.cpu_seconds() - server_cpu
    after = side.busy()
    return Turn(
        tuple(each.latency for target in answered.values() for each in target),
        seconds,
        tuple(now - before for before, now in zip(busy, after, strict=True)),
        server_cpu,
        client_cpu,
    )
