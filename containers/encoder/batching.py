"""Windows of all requests share the processor: one request has all cores, many have one each, and more share batches.

Nothing waits for company: while the engine runs, what comes is gathered. The thread of a request that may run the
engine does so itself, so a lone request changes threads nowhere. An engine that pads runs like lengths together; one
that packs runs whatever is next, as much as it needs to be busy.

Requests take fair turns, so a small one does not wait for all windows of a large one. Windows that nobody waits for any
more, since the client has left or the deadline has passed, are not run.

One engine uses all cores for one batch; another has a lane for each core, which together do more, but none alone. The
second costs memory, so it is loaded when requests first wait for each other, and used while there are enough of them
for it to do more.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from containers.encoder.engines import EncoderEngine
from containers.serving.cancellation import Cancellation
from containers.serving.question_answering.fairness import FairClock, Turn
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window

Logits = tuple[FloatArray, FloatArray]
LENGTH_BUCKET = 16
"""A row alone is padded to a multiple of this many tokens, so that every such shape can be warmed at the start."""
BATCH_BUCKET = 32
"""Rows together are padded to a multiple of this many: each shape that an engine has seen costs it some megabytes."""
_ALL_CORES_GAINS: Mapping[int, float] = {1: 1.0, 2: 1.14, 4: 1.26, 8: 1.36}
_ONE_CORE_GAINS: Mapping[int, float] = {1: 1.0, 2: 1.07, 4: 1.12}
"""Tokens a second by rows in a batch, over those of one row (BERT-base by OpenVINO, two cores). Other sizes do not
run: an engine would prepare a shape for each."""
ENOUGH_TOKENS = 64
"""An engine that packs is as fast with so many tokens as with more: with fewer, reading the weights takes longer than
their products (BERT-base, one core)."""
_LONGEST_SECONDS = 0.25
"""What a batch may take, by the rate of those before: whoever comes next waits that long at the most."""
_FIRST_RATE = 4000.0
"""Tokens a second, until something has been measured."""
_SMOOTHING = 0.2
_WORTH = 1.05
"""How much more the lanes must do together before they are used."""
_CANDIDATES = 512
"""Windows considered for a batch, which holds a few: it bounds the time of choosing."""
logger = logging.getLogger("encoder")


@dataclass(eq=False, slots=True)
class _Lane:
    """An engine, and the shapes that it has seen."""

    engine: EncoderEngine
    shapes: set[tuple[int, ...]] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Kind:
    """Lanes that may run at the same time, of which these are free. rate: tokens a second of one of them."""

    lanes: list[_Lane]
    packs: bool
    gains: Mapping[int, float]
    rate: float = _FIRST_RATE
    running: int = 0

    def choose(self, lengths: Sequence[int], first: int) -> list[int]:
        most_tokens = self.rate * _LONGEST_SECONDS
        return fill(lengths, first, most_tokens) if self.packs else choose(lengths, first, most_tokens, self.gains)

    def padded_to(self, rows: int) -> int:
        if self.packs:
            return 1
        return LENGTH_BUCKET if rows == 1 else BATCH_BUCKET

    def ran(self, lane: _Lane, batch: EncoderBatch, seconds: float) -> None:
        shape = batch.input_ids.shape
        tokens = int(batch.attention_mask.sum()) if self.packs else batch.input_ids.size
        # The first run of a shape prepares it where rows are padded, which says nothing of the runs that follow.
        if self.packs or shape in lane.shapes:
            self.rate += _SMOOTHING * (tokens / max(seconds, 1e-6) - self.rate)
        if not self.packs:
            lane.shapes.add(shape)


@dataclass(eq=False, slots=True)
class _Job:
    kind: _Kind
    lane: _Lane
    rows: "list[_Row]"


@dataclass(eq=False, slots=True)
class _Ticket:
    """The windows of one call and their logits as they come.

    turn: its virtual time; the earliest is next. job: work assigned to its thread. busy: true while its thread has a
    job. wake: there is a job, or everything is done.
    """

    logits: list[Logits | None]
    missing: int
    turn: Turn
    cancellation: Cancellation
    error: Exception | None = None
    job: _Job | None = None
    busy: bool = False
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False, slots=True)
class _Row:
    window: Window
    ticket: _Ticket
    index: int


class Batcher:
    """Runs engines for many threads.

    all_cores: the engine of a lone request. load_lanes: makes an engine for each core, of which as many may run at
    once; none where the engine or the machine has no use for them. It is called once, on a thread of its own.
    """

    def __init__(
        self,
        all_cores: EncoderEngine,
        load_lanes: Callable[[], Sequence[EncoderEngine]] = tuple,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._load_lanes, self._clock = load_lanes, clock
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._tickets = 0
        self._turns = FairClock()
        self._all_cores = _Kind([_Lane(all_cores)], all_cores.packs, _ALL_CORES_GAINS)
        self._lanes: _Kind | None = None
        self._loading: threading.Thread | None = None

    def infer(self, windows: Sequence[Window], cancellation: Cancellation | None = None) -> list[Logits]:
        """Return the start and end logits of each window, one of each for every token of it.

        Raises what the engine raises, and ServingError once nobody waits for the logits any more.
        """
        if not windows:
            return []
        cancellation = cancellation or Cancellation(math.inf)
        with self._lock:
            ticket = _Ticket([None] * len(windows), len(windows), self._turns.start(), cancellation)
            self._tickets += 1
            self._rows += [_Row(window, ticket, index) for index, window in enumerate(windows)]
            self._dispatch()
        cancellation.on_cancel(lambda: self._cancel(ticket))
        while True:
            ticket.wake.wait()
            with self._lock:
                job, ticket.job = ticket.job, None
                ticket.wake.clear()
                if job is None:
                    self._tickets -= 1
                    break
            self._run(ticket, job)
        if ticket.error is not None:
            raise ticket.error
        return [found for found in ticket.logits if found is not None]

    def _dispatch(self) -> None:
        """Give every free lane that may run now a batch; the lock is held."""
        self._drop_unwanted()
        if self._tickets > 1 and self._loading is None:
            self._loading = threading.Thread(target=self._load, daemon=True)
            self._loading.start()
        kind = self._kind()
        while kind.lanes:
            if self._tickets > 1:
                # Those of the same turn stay in the order in which they came.
                self._rows.sort(key=lambda row: row.ticket.turn.at)
            first = next((i for i, row in enumerate(self._rows) if not row.ticket.busy), None)
            if first is None:
                return
            begin = max(0, first + 1 - _CANDIDATES)
            lengths = [len(row.window.input_ids) for row in self._rows[begin : begin + _CANDIDATES]]
            chosen = [begin + index for index in kind.choose(lengths, first - begin)]
            ticket = self._rows[first].ticket
            ticket.job = _Job(kind, kind.lanes.pop(), [self._rows[index] for index in chosen])
            ticket.busy = True
            kind.running += 1
            self._charge(ticket.job.rows)
            taken = set(chosen)
            self._rows = [row for index, row in enumerate(self._rows) if index not in taken]
            ticket.wake.set()

    def _charge(self, rows: Sequence[_Row]) -> None:
        """Count the work of these rows against their requests' turns; the lock is held."""
        total = 0
        for row in rows:
            length = len(row.window.input_ids)
            row.ticket.turn.charge(length)
            total += length
        self._turns.advance(total, self._tickets)

    def _drop_unwanted(self) -> None:
        """Drop the waiting windows of requests that nobody waits for any more; the lock is held."""
        for ticket in {id(row.ticket): row.ticket for row in self._rows}.values():
            if ticket.error is None and (error := ticket.cancellation.error()) is not None:
                self._drop(ticket, error)

    def _cancel(self, ticket: _Ticket) -> None:
        with self._lock:
            error = ticket.cancellation.error()
            if error is not None and ticket.missing:
                self._drop(ticket, error)

    def _drop(self, ticket: _Ticket, error: Exception) -> None:
        """Fail a request and drop its waiting windows; the lock is held."""
        ticket.error = ticket.error or error
        waiting = len(self._rows)
        self._rows = [row for row in self._rows if row.ticket is not ticket]
        ticket.missing -= waiting - len(self._rows)
        if not ticket.missing:
            ticket.wake.set()

    def _kind(self) -> _Kind:
        """The lanes to use: those in use until they are all free, since both at once would fight for the cores."""
        lanes = self._lanes
        if lanes is None or self._all_cores.running:
            return self._all_cores
        used = min(self._tickets, lanes.running + len(lanes.lanes))
        return lanes if lanes.running or used * lanes.rate > _WORTH * self._all_cores.rate else self._all_cores

    def _run(self, runner: _Ticket, job: _Job) -> None:
        rows = job.rows
        began = self._clock()
        batch = EncoderBatch.of([row.window for row in rows], job.kind.padded_to(len(rows)))
        error: Exception | None = None
        try:
            start, end = job.lane.engine.infer(batch)
        except Exception as failure:
            error = failure
        seconds = self._clock() - began
        with self._lock:
            runner.busy = False
            job.kind.lanes.append(job.lane)
            job.kind.running -= 1
            if error is None:
                job.kind.ran(job.lane, batch, seconds)
            for line, row in enumerate(rows):
                length, ticket = len(row.window.input_ids), row.ticket
                if error is None:
                    ticket.logits[row.index] = (start[line, :length], end[line, :length])
                self._finished(ticket, error)
            self._dispatch()

    def _finished(self, ticket: _Ticket, error: Exception | None) -> None:
        """Note that one window of a ticket is done, or that it failed with all that still wait; the lock is held."""
        ticket.missing -= 1
        if error is not None:
            self._drop(ticket, error)
        elif not ticket.missing:
            ticket.wake.set()

    def _load(self) -> None:
        try:
            lanes = [_Lane(engine) for engine in self._load_lanes()]
        except Exception:
            logger.exception("the lanes of single cores were not loaded; requests share all cores")
            return
        if len(lanes) > 1:
            # As fast as it takes for them to be tried: what they do is then measured.
            kind = _Kind(lanes, lanes[0].engine.packs, _ONE_CORE_GAINS, rate=self._all_cores.rate)
            with self._lock:
                self._lanes = kind


def choose(lengths: Sequence[int], first: int, most_tokens: float, gains: Mapping[int, float]) -> list[int]:
    """Which of the waiting rows run next: that one, with those that make the most of the engine.

    lengths: tokens of each row. most_tokens: of a batch of several rows, padding included. gains: what a batch of so
    many rows does in the same time, against one row. Rows of about the same length go together, and as many as gain
    more by company than they lose by padding. Returns indices.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    place = order.index(first)
    best, chosen = lengths[first] / _padded(lengths[first], LENGTH_BUCKET), [first]
    for size, gain in gains.items():
        for begin in range(max(0, place - size + 1), min(place, len(order) - size) + 1):
            group = order[begin : begin + size]
            padded = size * _padded(lengths[group[-1]], BATCH_BUCKET)
            useful = gain * sum(lengths[index] for index in group) / padded
            if size > 1 and padded <= most_tokens and useful > best:
                best, chosen = useful, group
    return chosen


def fill(lengths: Sequence[int], first: int, most_tokens: float) -> list[int]:
    """Which of the waiting rows run next where no row pads another: that one, and others in their order.

    As many as it takes to have ENOUGH_TOKENS, but none that makes it more than most_tokens. Returns indices.
    """
    chosen, tokens = [first], lengths[first]
    for index, length in enumerate(lengths):
        if tokens >= ENOUGH_TOKENS:
            break
        if index != first and tokens + length <= most_tokens:
            chosen.append(index)
            tokens += length
    return chosen


def _padded(length: int, multiple_of: int) -> int:
    return -(-length // multiple_of) * multiple_of
