"""Windows of all requests share the engine: one alone has all its cores, many run together.

Nothing waits for company: while a batch runs, what comes is gathered. The thread of a request that finds the engine
free runs it, so a lone request changes threads nowhere, and the last thing a thread does is to wake the next one.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from containers.bert_int8.engines import EncoderEngine
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window

Logits = tuple[FloatArray, FloatArray]
LENGTH_BUCKET = 16
"""A row alone is padded to a multiple of this many tokens, so that every such shape can be warmed at the start."""
BATCH_BUCKET = 32
"""Rows together are padded to a multiple of this many: each shape that an engine has seen costs it some megabytes."""
_GAINS = {1: 1.0, 2: 1.14, 4: 1.26, 8: 1.36}
"""Tokens a second by rows in a batch, over those of one row (benchmarks/bert_int8, two cores). Other sizes do not run:
an engine would prepare a shape for each."""
_LONGEST_SECONDS = 0.25
"""What a batch may take, by the rate of those before: whoever comes next waits that long at the most."""
_FIRST_RATE = 4000.0
"""Tokens a second, until something has been measured."""
_SMOOTHING = 0.2


@dataclass(eq=False, slots=True)
class _Ticket:
    """The windows of one call: their logits as they come. wake: all are there, or this thread is to run the engine."""

    logits: list[Logits | None]
    missing: int
    error: Exception | None = None
    wake: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        return not self.missing or self.error is not None


@dataclass(eq=False, slots=True)
class _Row:
    window: Window
    ticket: _Ticket
    index: int


class Batcher:
    """Runs an engine for many threads, one batch at a time."""

    def __init__(self, engine: EncoderEngine, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._led = False
        self._rate = _FIRST_RATE

    def infer(self, windows: Sequence[Window]) -> list[Logits]:
        """Start and end logits of each window, as long as it is; raises what the engine raises."""
        if not windows:
            return []
        ticket = _Ticket([None] * len(windows), len(windows))
        with self._lock:
            self._rows += [_Row(window, ticket, index) for index, window in enumerate(windows)]
            leads = not self._led
            self._led = True
        if not leads:
            ticket.wake.wait()
        # Woken without being done, this thread runs the engine until it is, and hands over.
        if not ticket.done:
            try:
                while not ticket.done:
                    self._run()
            finally:
                self._hand_over()
        if ticket.error is not None:
            raise ticket.error
        return [found for found in ticket.logits if found is not None]

    def _run(self) -> None:
        with self._lock:
            chosen = choose([len(row.window.input_ids) for row in self._rows], self._rate * _LONGEST_SECONDS)
            rows = [self._rows[index] for index in chosen]
            self._rows = [row for row in self._rows if row not in rows]
        began = self._clock()
        batch = EncoderBatch.of([row.window for row in rows], LENGTH_BUCKET if len(rows) == 1 else BATCH_BUCKET)
        try:
            start, end = self._engine.infer(batch)
        except Exception as error:
            for row in rows:
                self._fail(row.ticket, error)
            return
        self._rate += _SMOOTHING * (batch.input_ids.size / max(self._clock() - began, 1e-6) - self._rate)
        for line, row in enumerate(rows):
            length, ticket = len(row.window.input_ids), row.ticket
            ticket.logits[row.index] = (start[line, :length], end[line, :length])
            ticket.missing -= 1
            if not ticket.missing:
                ticket.wake.set()

    def _fail(self, ticket: _Ticket, error: Exception) -> None:
        ticket.error = error
        with self._lock:
            self._rows = [row for row in self._rows if row.ticket is not ticket]
        ticket.wake.set()

    def _hand_over(self) -> None:
        with self._lock:
            if self._rows:
                self._rows[0].ticket.wake.set()
            else:
                self._led = False


def choose(lengths: Sequence[int], most_tokens: float) -> list[int]:
    """Which of the waiting rows run next: the first, with those that make the most of the engine.

    lengths: tokens of each row, the longest waiting first. most_tokens: of a batch of several rows, padding included.
    Rows of about the same length go together, and as many as gain more by company than they lose by padding.
    Returns indices.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    first = order.index(0)
    best, chosen = lengths[0] / _padded(lengths[0], LENGTH_BUCKET), [0]
    for size, gain in _GAINS.items():
        for begin in range(max(0, first - size + 1), min(first, len(order) - size) + 1):
            group = order[begin : begin + size]
            padded = size * _padded(lengths[group[-1]], BATCH_BUCKET)
            useful = gain * sum(lengths[index] for index in group) / padded
            if size > 1 and padded <= most_tokens and useful > best:
                best, chosen = useful, group
    return chosen


def _padded(length: int, multiple_of: int) -> int:
    return -(-length // multiple_of) * multiple_of
