"""What waiting alone makes of an engine's times: whoever comes first is served first, by as many lanes as there are."""

import heapq
from collections.abc import Iterable, Sequence


def first_come_first_served(due: Iterable[float], seconds: Sequence[float], lanes: int) -> list[float]:
    """Seconds that each request takes, from when it was due.

    due: ascending. seconds: what a lane needs for each request; they are taken in turn.
    """
    free = [0.0] * lanes
    found = []
    for number, arrival in enumerate(due):
        done = max(arrival, free[0]) + seconds[number % len(seconds)]
        heapq.heapreplace(free, done)
        found.append(done - arrival)
    return found
