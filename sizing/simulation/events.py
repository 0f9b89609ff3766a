"""Event-by-event simulation: every request with its instance, worker and wait."""

import heapq
from collections import deque
from collections.abc import Callable

import numpy as np

from sizing.simulation.endpoint import Endpoint
from sizing.simulation.latencies import Floats
from sizing.simulation.recorder import Recorder
from sizing.simulation.result import Result
from sizing.simulation.scaler import Scaler
from sizing.simulation.traffic import Trace

_REFUSED = -1.0


def simulate_events(
    endpoint: Endpoint,
    trace: Trace,
    *,
    usd_per_hour: float = 0.0,
    seed: int = 0,
    window_seconds: float = 60.0,
    on_second: Callable[[float], object] = lambda _: None,
) -> Result:
    """Simulate every request of a trace: Poisson arrivals, random service times, first come first served per instance.

    usd_per_hour: price of an instance.
    seed: equal seeds give equal results.
    on_second: called with the simulated second, to report progress.

    It takes about two microseconds per request.
    """
    run = _Run(endpoint, trace, seed, window_seconds)
    for end, arrivals in trace.arrivals(run.rng):
        run.serve(arrivals, end)
        on_second(end)
    return run.recorder.result(trace.name, "events", usd_per_hour, run.scaler)


class _Instance:
    """State of one instance.

    free: heap of the times at which each worker is free.
    starts: increasing start times of the waiting requests.
    out: number of outstanding requests.
    """

    __slots__ = ("free", "out", "starts")

    def __init__(self, workers: int) -> None:
        self.free = [0.0] * workers
        self.starts: deque[float] = deque()
        self.out = 0


class _Run:
    def __init__(self, endpoint: Endpoint, trace: Trace, seed: int, window_seconds: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.scaler = Scaler(endpoint)
        self.recorder = Recorder(trace.seconds, window_seconds)
        self._endpoint = endpoint
        self._service: Floats = np.asarray(endpoint.service.points) / 1000
        self._instances = [_Instance(endpoint.workers) for _ in range(self.scaler.ready)]
        self._finishing: list[tuple[float, int, _Instance]] = []
        self._order = 0
        self._now = 0.0
        self._invocations = 0.0
        self._in_flight_seconds = 0.0
        self._unanswered: Floats = np.empty(0)

    def serve(self, arrivals: Floats, end: float) -> None:
        """Simulate the requests up to a time, and the scaling in the meantime."""
        while self._now < end:
            until = min(end, self.scaler.next_moment)
            count = int(np.searchsorted(arrivals, until))
            self._segment(arrivals[:count], until)
            arrivals = arrivals[count:]
            self.recorder.span(self._now, until, self.scaler)
            self._now = until
            self.scaler.advance(until, self._invocations, self._in_flight_seconds)
            self._resize()

    def _resize(self) -> None:
        missing = self.scaler.ready - len(self._instances)
        if missing < 0:
            # Removed instances finish their requests, whose times are already recorded.
            del self._instances[self.scaler.ready :]
        self._instances.extend(_Instance(self._endpoint.workers) for _ in range(missing))

    def _segment(self, arrivals: Floats, until: float) -> None:
        services = self.rng.choice(self._service, len(arrivals))
        route = self._randomly if self._endpoint.routing == "random" else self._least_outstanding
        finishes = np.asarray(route(arrivals, services))
        served = finishes != _REFUSED
        begins, ends = arrivals[served], finishes[served]
        seconds = ends - begins
        answered = np.minimum(ends, begins + self._endpoint.timeout_seconds)
        self._account(begins, answered, len(arrivals) - len(begins), until)
        in_time = seconds <= self._endpoint.timeout_seconds
        self._record(arrivals, served, begins, seconds, in_time)

    def _record(self, arrivals: Floats, served: Floats, begins: Floats, seconds: Floats, in_time: Floats) -> None:
        recorder = self.recorder
        if not len(arrivals):
            return
        for window in range(recorder.window(arrivals[0]), recorder.window(arrivals[-1]) + 1):
            all_here = _within(arrivals, recorder, window)
            here = _within(begins, recorder, window)
            answered = in_time[here]
            recorder.served(
                window,
                all_here.stop - all_here.start,
                rejected=float((~served[all_here].astype(bool)).sum()),
                timed_out=float((~answered.astype(bool)).sum()),
            )
            recorder.latencies.add(window, 1000 * seconds[here][answered])

    def _account(self, begins: Floats, answered: Floats, refused: int, until: float) -> None:
        """Update the endpoint's metrics up to a time."""
        now = self._now
        self._in_flight_seconds += float((np.minimum(self._unanswered, until) - now).sum())
        self._in_flight_seconds += float((np.minimum(answered, until) - begins).sum())
        both = np.concatenate([self._unanswered, answered])
        self._unanswered = both[both > until]
        on_answer = len(both) - len(self._unanswered)
        self._invocations += refused + (on_answer if self._endpoint.counted == "answer" else len(begins))

    def _randomly(self, arrivals: Floats, services: Floats) -> list[float]:
        picks = self.rng.integers(0, len(self._instances), len(arrivals)).tolist()
        instances, limit = self._instances, self._endpoint.queue_limit
        replace = heapq.heapreplace
        finishes = []
        for arrival, service, pick in zip(arrivals.tolist(), services.tolist(), picks, strict=True):
            instance = instances[pick]
            start = instance.free[0]
            if start <= arrival:
                start = arrival
            elif limit is not None:
                starts = instance.starts
                while starts and starts[0] <= arrival:
                    starts.popleft()
                if len(starts) >= limit:
                    finishes.append(_REFUSED)
                    continue
                starts.append(start)
            replace(instance.free, start + service)
            finishes.append(start + service)
        return finishes

    def _least_outstanding(self, arrivals: Floats, services: Floats) -> list[float]:
        instances, finishing = self._instances, self._finishing
        workers, limit = self._endpoint.workers, self._endpoint.queue_limit
        most = None if limit is None else workers + limit
        order = self._order
        finishes = []
        for arrival, service in zip(arrivals.tolist(), services.tolist(), strict=True):
            while finishing and finishing[0][0] <= arrival:
                heapq.heappop(finishing)[2].out -= 1
            instance = min(instances, key=_outstanding)
            if most is not None and instance.out >= most:
                finishes.append(_REFUSED)
                continue
            instance.out += 1
            order += 1
            finish = max(arrival, instance.free[0]) + service
            heapq.heapreplace(instance.free, finish)
            heapq.heappush(finishing, (finish, order, instance))
            finishes.append(finish)
        self._order = order
        return finishes


def _outstanding(instance: _Instance) -> int:
    return instance.out


def _within(times: Floats, recorder: Recorder, window: int) -> slice:
    """Return the slice of the sorted times that is in a window."""
    width = recorder.window_seconds
    last = window == recorder.windows - 1
    begin = int(np.searchsorted(times, window * width))
    return slice(begin, len(times) if last else int(np.searchsorted(times, (window + 1) * width)))
