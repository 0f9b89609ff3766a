"""Dynamic batching: windows of all requests share the traced batches of one core group.

A core never waits for a fuller batch: windows that arrive while it works form the next one. So batches grow with the
load, and a lone request is not delayed. A full batch is handed over while the previous one still runs, so the core
continues at once. The deadline bounds how long a window of a rarely used model or length waits behind fuller batches.

Requests take turns by the work done for each, so a small one does not wait for all windows of a large one. The windows
of a canceled request leave the queue at once.

A batch takes the traced shape with the most windows per second, by the times measured at startup. If time grows with
the shape, four of five windows run in a shape of four, and no time is spent on three rows of padding.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from containers.neuron_encoder.artifact import NeuronArtifact
from containers.neuron_encoder.devices import Device
from containers.neuron_encoder.devices.core import sleep_precisely
from containers.serving.errors import ServingError
from containers.serving.question_answering.fairness import FairClock, Turn
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window

Logits = tuple[FloatArray, FloatArray]
_HANDED_OVER = 2
"""Most batches at the core: the running one and the next one."""


class Observer(Protocol):
    """An observer of every batch."""

    def batch(self, model: int, length: int, rows: int, size: int) -> None:
        """Record a batch of `rows` windows in a traced shape of `size` rows and `length` tokens."""


@dataclass(eq=False, slots=True)
class _Ticket:
    """The windows of one request: their logits as they arrive, and a future for all of them.

    turn: virtual time of the request; the earliest is next.
    """

    logits: list[Logits | None]
    missing: int
    future: asyncio.Future[list[Logits]]
    turn: Turn


@dataclass(eq=False, slots=True)
class _Row:
    window: Window
    ticket: _Ticket
    index: int
    due: float


@dataclass(eq=False, slots=True)
class _Group:
    """Windows of one model and one traced length, in order of arrival within each request."""

    model: int
    length: int
    batches: tuple[int, ...]
    requests: dict[_Ticket, deque[_Row]] = field(default_factory=dict)
    waiting: int = 0

    @property
    def full(self) -> bool:
        return self.waiting >= self.batches[-1]

    @property
    def due(self) -> float:
        """Return the earliest deadline of the waiting windows."""
        return min(rows[0].due for rows in self.requests.values())

    @property
    def turn(self) -> float:
        """Return the virtual time of the request whose turn it is."""
        return min(ticket.turn.at for ticket in self.requests)

    def add(self, row: _Row) -> None:
        self.requests.setdefault(row.ticket, deque()).append(row)
        self.waiting += 1

    def take(self) -> _Row:
        """Return the next window of the request whose turn it is, and charge it to that turn."""
        ticket = min(self.requests, key=lambda ticket: ticket.turn.at)
        row = self.requests[ticket].popleft()
        if not self.requests[ticket]:
            del self.requests[ticket]
        ticket.turn.charge(self.length)
        self.waiting -= 1
        return row

    def drop(self, ticket: _Ticket) -> int:
        """Drop the windows of a request, and return their number."""
        dropped = len(self.requests.pop(ticket, ()))
        self.waiting -= dropped
        return dropped


@dataclass(frozen=True, slots=True)
class _Job:
    model: int
    batch: EncoderBatch
    rows: list[_Row]


class Scheduler:
    """The scheduler of one core group; it belongs to the event loop that creates it.

    devices: one device per model.
    seconds: time of a batch by length and size.
    capacity: most waiting windows per model.
    deadline_seconds: time after which a waiting window goes before fuller batches.
    """

    def __init__(
        self,
        artifact: NeuronArtifact,
        devices: Sequence[Device],
        observer: Observer,
        seconds: Mapping[tuple[int, int], float],
        *,
        deadline_seconds: float,
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._devices, self._observer, self._seconds = devices, observer, seconds
        self._deadline, self._capacity, self._clock = deadline_seconds, capacity, clock
        self._lengths = artifact.lengths
        self._groups = {
            (model, length): _Group(model, length, artifact.batches(length))
            for model in range(len(devices))
            for length in self._lengths
        }
        self._waiting = [0] * len(devices)
        self._turns = FairClock()
        self._requests = 0
        self._at_core = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_HANDED_OVER)]
        for thread in self._threads:
            thread.start()

    def waiting(self, model: int) -> int:
        """Return the number of windows of a model that wait for a batch."""
        return self._waiting[model]

    async def infer(self, model: int, windows: Sequence[Window]) -> list[Logits]:
        """Return start and end logits of each window, one per token; raises ServingError 503 if too many wait."""
        waiting = self._waiting[model]
        # A request with more windows than the capacity is accepted when no other waits; otherwise it never would be.
        if waiting and waiting + len(windows) > self._capacity:
            raise ServingError(
                503,
                "overloaded",
                f"{waiting} windows of this model are waiting; try again later",
                retry_after_seconds=1,
            )
        future: asyncio.Future[list[Logits]] = self._loop.create_future()
        ticket = _Ticket([None] * len(windows), len(windows), future, self._turns.start())
        due = self._clock() + self._deadline
        groups = [self._group(model, len(window.input_ids)) for window in windows]
        for index, (window, group) in enumerate(zip(windows, groups, strict=True)):
            group.add(_Row(window, ticket, index, due))
        self._waiting[model] += len(windows)
        self._requests += 1
        try:
            self._hand_over()
            return await future
        finally:
            self._requests -= 1
            # If the request was canceled or one of its batches failed, some of its windows may still wait.
            if ticket.missing:
                self._waiting[model] -= sum(group.drop(ticket) for group in dict.fromkeys(groups))

    async def close(self) -> None:
        """Stop the threads after they finish the batches handed over."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _group(self, model: int, length: int) -> _Group:
        for bucket in self._lengths:
            if length <= bucket:
                return self._groups[model, bucket]
        raise ValueError(f"a window has {length} tokens, the longest traced length is {self._lengths[-1]}")

    def _hand_over(self) -> None:
        while self._at_core < _HANDED_OVER and (group := self._next()) is not None:
            size = self._size(group)
            rows = self._take(group, size)
            if not rows:
                continue
            self._observer.batch(group.model, group.length, len(rows), size)
            self._at_core += 1
            self._jobs.put(_Job(group.model, _padded(rows, size, group.length), rows))

    def _next(self) -> _Group | None:
        """Return the group to run next; None if the core is busy and no group is full.

        Groups past their deadline go first, full or not, in the order of their requests' turns. Then the fullest goes.
        """
        waiting = [group for group in self._groups.values() if group.waiting]
        ready = [group for group in waiting if self._at_core == 0 or group.full]
        if not ready or len(waiting) == 1:
            return ready[0] if ready else None
        now = self._clock()
        if late := [group for group in waiting if group.due <= now]:
            return min(late, key=lambda group: group.turn)
        return max(ready, key=lambda group: min(1.0, group.waiting / group.batches[-1]))

    def _size(self, group: _Group) -> int:
        """Return the traced batch size with the most waiting windows per second, the smaller one on a tie."""
        waiting = group.waiting
        return max(group.batches, key=lambda size: (min(waiting, size) / self._seconds[group.length, size], -size))

    def _take(self, group: _Group, size: int) -> list[_Row]:
        """Take up to `size` windows, and drop those of requests that are already done."""
        rows: list[_Row] = []
        while group.waiting and len(rows) < size:
            row = group.take()
            self._waiting[group.model] -= 1
            if not row.ticket.future.done():
                rows.append(row)
        self._turns.advance(len(rows) * group.length, self._requests)
        return rows

    def _work(self) -> None:
        sleep_precisely()
        while (job := self._jobs.get()) is not None:
            try:
                logits = self._devices[job.model].run(job.batch)
            except Exception as error:
                self._loop.call_soon_threadsafe(self._failed, job, error)
            else:
                self._loop.call_soon_threadsafe(self._done, job, logits)

    def _done(self, job: _Job, logits: Logits) -> None:
        self._at_core -= 1
        self._hand_over()
        for line, row in enumerate(job.rows):
            length, ticket = len(row.window.input_ids), row.ticket
            ticket.logits[row.index] = (logits[0][line, :length], logits[1][line, :length])
            ticket.missing -= 1
            if ticket.missing == 0 and not ticket.future.done():
                ticket.future.set_result([pair for pair in ticket.logits if pair is not None])

    def _failed(self, job: _Job, error: Exception) -> None:
        self._at_core -= 1
        self._hand_over()
        for row in job.rows:
            if not row.ticket.future.done():
                row.ticket.future.set_exception(error)


def _padded(rows: Sequence[_Row], size: int, length: int) -> EncoderBatch:
    """Return the rows in the traced shape; padding rows attend to one token, since softmax over none gives NaN."""
    input_ids, mask, types = (np.zeros((size, length), dtype=np.int64) for _ in range(3))
    for line, row in enumerate(rows):
        tokens = len(row.window.input_ids)
        input_ids[line, :tokens] = row.window.input_ids
        mask[line, :tokens] = 1
        types[line, :tokens] = row.window.token_type_ids
    mask[len(rows) :, 0] = 1
    return EncoderBatch(input_ids, mask, types)
