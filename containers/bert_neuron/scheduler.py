"""Dynamic batching: windows of all requests share the traced batches of one core group.

A core never waits for company: while it works, what comes is gathered, so batches grow with the load by themselves,
and a lone request is not held back. A full batch is handed over while the one before still runs, so that the core
goes on at once. The deadline bounds how long a window of a rarely asked model or length stands behind fuller batches.

Of the traced shapes, a batch takes the one that does most windows a second, by the times measured at the start: where
the time grows with the shape, four of five windows go in a shape of four, and no time is spent on three rows of
padding.
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

from containers.bert_neuron.artifact import NeuronArtifact
from containers.bert_neuron.devices import Device
from containers.bert_neuron.devices.core import sleep_precisely
from containers.serving.errors import ServingError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window

Logits = tuple[FloatArray, FloatArray]
_HANDED_OVER = 2
"""Batches at the core at most: the one that runs and the one that is next."""


class Observer(Protocol):
    """What is told of every batch."""

    def batch(self, model: int, length: int, rows: int, size: int) -> None:
        """rows: windows in a traced batch of that size."""


@dataclass(eq=False, slots=True)
class _Ticket:
    """The windows of one request: their logits as they come, and the future of all."""

    logits: list[Logits | None]
    missing: int
    future: asyncio.Future[list[Logits]]


@dataclass(eq=False, slots=True)
class _Row:
    window: Window
    ticket: _Ticket
    index: int
    due: float


@dataclass(eq=False, slots=True)
class _Group:
    """Windows of one model and one traced length, in the order they came."""

    model: int
    length: int
    batches: tuple[int, ...]
    rows: deque[_Row] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        return len(self.rows) >= self.batches[-1]


@dataclass(frozen=True, slots=True)
class _Job:
    model: int
    batch: EncoderBatch
    rows: list[_Row]


class Scheduler:
    """Batches for one core group; belongs to the event loop that it is made on.

    devices: one for each model. seconds: that a batch takes by its length and size. capacity: windows of a model that
    may wait. deadline_seconds: see the module.
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
        self._at_core = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_HANDED_OVER)]
        for thread in self._threads:
            thread.start()

    def waiting(self, model: int) -> int:
        """Windows of a model that wait for a batch."""
        return self._waiting[model]

    async def infer(self, model: int, windows: Sequence[Window]) -> list[Logits]:
        """Start and end logits of each window, as long as it is; raises ServingError 503 when too many wait."""
        waiting = self._waiting[model]
        # A request of more windows than may wait is served when nothing else waits, or it would never be.
        if waiting and waiting + len(windows) > self._capacity:
            raise ServingError(
                503,
                "overloaded",
                f"{waiting} windows of this model are waiting; try again later",
                retry_after_seconds=1,
            )
        future: asyncio.Future[list[Logits]] = self._loop.create_future()
        ticket = _Ticket([None] * len(windows), len(windows), future)
        due = self._clock() + self._deadline
        for index, window in enumerate(windows):
            self._group(model, len(window.input_ids)).rows.append(_Row(window, ticket, index, due))
        self._waiting[model] += len(windows)
        self._hand_over()
        return await future

    async def close(self) -> None:
        """Ends the threads once what was handed over is done."""
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
        """The group whose turn it is: one past its deadline, else the fullest; while the core works, only full ones."""
        ready = [group for group in self._groups.values() if group.rows and (self._at_core == 0 or group.full)]
        if len(ready) < 2:
            return ready[0] if ready else None
        oldest = min(ready, key=lambda group: group.rows[0].due)
        if oldest.rows[0].due <= self._clock():
            return oldest
        return max(ready, key=lambda group: min(1.0, len(group.rows) / group.batches[-1]))

    def _size(self, group: _Group) -> int:
        """The traced batch that does most of the waiting windows a second, the smaller of equals."""
        waiting = len(group.rows)
        return max(group.batches, key=lambda size: (min(waiting, size) / self._seconds[group.length, size], -size))

    def _take(self, group: _Group, size: int) -> list[_Row]:
        """Up to so many, without those that nobody waits for any more."""
        rows: list[_Row] = []
        while group.rows and len(rows) < size:
            row = group.rows.popleft()
            self._waiting[group.model] -= 1
            if not row.ticket.future.done():
                rows.append(row)
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
                ticket.future.set_result([found for found in ticket.logits if found is not None])

    def _failed(self, job: _Job, error: Exception) -> None:
        self._at_core -= 1
        self._hand_over()
        for row in job.rows:
            if not row.ticket.future.done():
                row.ticket.future.set_exception(error)


def _padded(rows: Sequence[_Row], size: int, length: int) -> EncoderBatch:
    """The rows in the traced shape; rows of padding attend to one token, since softmax over none is not a number."""
    input_ids, mask, types = (np.zeros((size, length), dtype=np.int64) for _ in range(3))
    for line, row in enumerate(rows):
        tokens = len(row.window.input_ids)
        input_ids[line, :tokens] = row.window.input_ids
        mask[line, :tokens] = 1
        types[line, :tokens] = row.window.token_type_ids
    mask[len(rows) :, 0] = 1
    return EncoderBatch(input_ids, mask, types)
