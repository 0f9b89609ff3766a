"""Dynamic batching: the windows of all requests share the processor.

A lone request gets all cores, several requests get one core each, and more requests share batches.

The engine never waits for a fuller batch: windows that arrive while it runs form the next one. A request's own thread
runs the engine, so a lone request never switches threads. An engine that pads runs windows of similar length together.
An engine that packs runs the next windows in order, as many as it needs to be busy.

Requests take fair turns, so a small one does not wait for all windows of a large one. Windows are dropped when their
client has left or their deadline has passed.

The first engine uses all cores for one batch. The second has one lane per core: together the lanes do more work, but a
single batch takes longer. The lanes cost memory, so they load when requests first wait for each other. They are used
while enough requests arrive for them to be faster.
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
"""A single row is padded to a multiple of this many tokens, few enough shapes to warm all of them at startup."""
BATCH_BUCKET = 32
"""Several rows are padded to a multiple of this many tokens: each new shape costs an engine some megabytes."""
_ALL_CORES_GAINS: Mapping[int, float] = {1: 1.0, 2: 1.14, 4: 1.26, 8: 1.36}
_ONE_CORE_GAINS: Mapping[int, float] = {1: 1.0, 2: 1.07, 4: 1.12}
"""Throughput in tokens by rows in a batch, relative to one row (measured: BERT-base on OpenVINO, two cores). Other
batch sizes are not used, since an engine would prepare a shape for each."""
ENOUGH_TOKENS = 64
"""Tokens from which an engine that packs is no faster with more. With fewer tokens, reading the weights takes longer
than multiplying by them (BERT-base, one core)."""
_LONGEST_SECONDS = 0.25
"""Longest time for a batch, estimated from earlier batches; the next request waits at most that long."""
_FIRST_RATE = 4000.0
"""Tokens per second, assumed until a batch has been measured."""
_SMOOTHING = 0.2
_WORTH = 1.05
"""Factor by which the lanes' total throughput must exceed that of all cores before they are used."""
_CANDIDATES = 512
"""Most windows considered for a batch of a few; bounds the time to choose."""
logger = logging.getLogger("encoder")


@dataclass(eq=False, slots=True)
class _Lane:
    """An engine, and the shapes that it has run."""

    engine: EncoderEngine
    shapes: set[tuple[int, ...]] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Kind:
    """Lanes that may run at the same time.

    lanes: lanes that are free now.
    rate: tokens per second of one lane.
    shared_rate: the same of runs at whose end other requests were present: their threads slow down an engine that
        needs all cores at once. None before the first.
    running: number of lanes in use.
    """

    lanes: list[_Lane]
    packs: bool
    gains: Mapping[int, float]
    rate: float = _FIRST_RATE
    shared_rate: float | None = None
    running: int = 0

    def choose(self, lengths: Sequence[int], first: int) -> list[int]:
        most_tokens = self.rate * _LONGEST_SECONDS
        return fill(lengths, first, most_tokens) if self.packs else choose(lengths, first, most_tokens, self.gains)

    def padded_to(self, rows: int) -> int:
        if self.packs:
            return 1
        return LENGTH_BUCKET if rows == 1 else BATCH_BUCKET

    def ran(self, lane: _Lane, batch: EncoderBatch, seconds: float, *, shared: bool) -> None:
        shape = batch.input_ids.shape
        tokens = int(batch.attention_mask.sum()) if self.packs else batch.input_ids.size
        # With padding, the first run of a shape also prepares it, so its time does not predict later runs.
        if self.packs or shape in lane.shapes:
            rate = tokens / max(seconds, 1e-6)
            self.rate += _SMOOTHING * (rate - self.rate)
            if shared:
                before = rate if self.shared_rate is None else self.shared_rate
                self.shared_rate = before + _SMOOTHING * (rate - before)
        if not self.packs:
            lane.shapes.add(shape)


@dataclass(eq=False, slots=True)
class _Job:
    kind: _Kind
    lane: _Lane
    rows: "list[_Row]"


@dataclass(eq=False, slots=True)
class _Ticket:
    """The windows of one call, and their logits as they arrive.

    turn: virtual time of the call; the earliest is next.
    job: work assigned to the call's thread.
    busy: true while the thread has a job.
    wake: set when there is a job or the call is done.
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
    """A batcher that runs engines for many threads.

    all_cores: engine for a lone request.
    load_lanes: returns one engine per core, which may all run at once, or none if the engine or machine cannot use
        them. Called once, on a separate thread.
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
        """Return the start and end logits of each window, one of each per token.

        Raises whatever the engine raises, and ServingError once the response is no longer needed.
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
        return [logits for logits in ticket.logits if logits is not None]

    def _dispatch(self) -> None:
        """Assign a batch to every free lane that may run now; the lock is held."""
        self._drop_unwanted()
        if self._tickets > 1 and self._loading is None:
            self._loading = threading.Thread(target=self._load, daemon=True)
            self._loading.start()
        kind = self._kind()
        while kind.lanes:
            if self._tickets > 1:
                # The sort is stable: rows with the same turn stay in order of arrival.
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
        """Charge the work of these rows to their requests' turns; the lock is held."""
        total = 0
        for row in rows:
            length = len(row.window.input_ids)
            row.ticket.turn.charge(length)
            total += length
        self._turns.advance(total, self._tickets)

    def _drop_unwanted(self) -> None:
        """Drop the waiting windows of requests that are no longer needed; the lock is held."""
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
        """Return the kind of lanes to use; the one in use until it is idle, since both would compete for the cores."""
        lanes = self._lanes
        if lanes is None or self._all_cores.running:
            return self._all_cores
        used = min(self._tickets, lanes.running + len(lanes.lanes))
        rate, shared_rate = self._all_cores.rate, self._all_cores.shared_rate
        others = rate if shared_rate is None or self._tickets == 1 else shared_rate
        return lanes if lanes.running or used * lanes.rate > _WORTH * others else self._all_cores

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
                job.kind.ran(job.lane, batch, seconds, shared=self._tickets > 1)
            for line, row in enumerate(rows):
                length, ticket = len(row.window.input_ids), row.ticket
                if error is None:
                    ticket.logits[row.index] = (start[line, :length], end[line, :length])
                self._finished(ticket, error)
            self._dispatch()

    def _finished(self, ticket: _Ticket, error: Exception | None) -> None:
        """Record that one window of a ticket is done, or fail it with all its waiting windows; the lock is held."""
        ticket.missing -= 1
        if error is not None:
            self._drop(ticket, error)
        elif not ticket.missing:
            ticket.wake.set()

    def _load(self) -> None:
        try:
            lanes = [_Lane(engine) for engine in self._load_lanes()]
        except Exception:
            logger.exception("loading the single-core lanes failed; requests share all cores")
            return
        if len(lanes) > 1:
            # Assumed fast enough to be tried; their real rate is then measured.
            kind = _Kind(lanes, lanes[0].engine.packs, _ONE_CORE_GAINS, rate=self._all_cores.rate)
            with self._lock:
                self._lanes = kind


def choose(lengths: Sequence[int], first: int, most_tokens: float, gains: Mapping[int, float]) -> list[int]:
    """Return the indices of the waiting rows to run next: `first`, and rows that make the best use of the engine.

    Rows of similar length run together, if batching gains more than padding loses.

    lengths: tokens of each row.
    first: index of the row that must run.
    most_tokens: most tokens in a batch of several rows, padding included.
    gains: throughput by rows in a batch, relative to one row.
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
    """Return the indices of the waiting rows to run next on an engine that packs: `first`, and others in order.

    Rows are added until the batch has ENOUGH_TOKENS, but none that would exceed `most_tokens`.
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
