"""Effect of waiting alone on an engine's service times: first come, first served, on a number of lanes."""

import heapq
from collections.abc import Iterable, Sequence


def first_come_first_served(due: Iterable[float], seconds: Sequence[float], lanes: int) -> list[float]:
    """Return the seconds that each request takes from when it was due.

    due: due times in ascending order.
    seconds: service times of a lane, used in turn.
    """
    free = [0.0] * lanes
    latencies = []
    for number, arrival in enumerate(due):
        done = max(arrival, free[0]) + seconds[number % len(seconds)]
        heapq.heapreplace(free, done)
        latencies.append(done - arrival)
    return latencies
