"""Windows of many threads share the engine's batches: the right answers, each to its own caller, and none is lost."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.bert_int8.batching import BATCH_BUCKET, LENGTH_BUCKET, Batcher, choose
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window


def window(tokens: int, first: int = 1) -> Window:
    ids = np.full(tokens, first, dtype=np.int64)
    return Window(ids, np.zeros_like(ids), 2, np.zeros((max(0, tokens - 3), 2), dtype=np.int64))


class Echo:
    """Logits are the tokens themselves. It holds every batch until it may go on, and knows what it was given."""

    def __init__(self, *, open: bool = True) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.inside = threading.Semaphore(0)
        self.gate = threading.Event()
        self.at_once = self.most_at_once = 0
        if open:
            self.gate.set()

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.shapes.append((batch.input_ids.shape[0], batch.input_ids.shape[1]))
        self.inside.release()
        assert self.gate.wait(timeout=10)
        self.at_once -= 1
        logits = batch.input_ids.astype(np.float32)
        return logits, -logits


def gathered(engine: Echo, batcher: Batcher, windows: list[Window]) -> list[tuple[FloatArray, FloatArray]]:
    """Asks for the first window alone, for all others while it runs, each on a thread of its own."""
    with ThreadPoolExecutor(len(windows)) as threads:
        first = threads.submit(batcher.infer, windows[:1])
        assert engine.inside.acquire(timeout=10)
        rest = [threads.submit(batcher.infer, [each]) for each in windows[1:]]
        while len(batcher._rows) < len(rest):
            assert not first.done()
        engine.gate.set()
        return [future.result(timeout=10)[0] for future in (first, *rest)]


def test_a_lone_window_runs_at_once_alone_and_padded_to_the_small_bucket() -> None:
    engine = Echo()
    ((start, end),) = Batcher(engine).infer([window(17, first=5)])
    assert engine.shapes == [(1, 2 * LENGTH_BUCKET)]
    assert start.tolist() == [5.0] * 17
    assert end.tolist() == [-5.0] * 17


def test_what_comes_while_the_engine_works_runs_together_and_everyone_has_his_own() -> None:
    engine = Echo(open=False)
    windows = [window(40, first) for first in range(1, 10)]
    answers = gathered(engine, Batcher(engine), windows)
    assert engine.shapes == [(1, 48), (8, 2 * BATCH_BUCKET)]
    for number, (start, _) in enumerate(answers, 1):
        assert start.tolist() == [float(number)] * 40


def test_the_engine_never_runs_twice_at_once_and_every_window_is_answered() -> None:
    engine = Echo()
    batcher = Batcher(engine)
    with ThreadPoolExecutor(16) as threads:
        futures = [
            threads.submit(batcher.infer, [window(10 + number % 50, number), window(5, number)])
            for number in range(1, 301)
        ]
        for number, future in enumerate(futures, 1):
            (start, _), (other, _) = future.result(timeout=30)
            assert start.tolist() == [float(number)] * (10 + number % 50)
            assert other.tolist() == [float(number)] * 5
    assert engine.most_at_once == 1
    assert batcher._rows == []


def test_windows_of_one_call_keep_their_order() -> None:
    lengths = [30, 5, 200, 7, 31, 100, 6, 8, 9, 64, 65]
    found = Batcher(Echo()).infer([window(length, first) for first, length in enumerate(lengths, 1)])
    assert [(len(start), start[0]) for start, _ in found] == [(n, float(i)) for i, n in enumerate(lengths, 1)]


def test_no_window_needs_no_engine() -> None:
    engine = Echo()
    assert Batcher(engine).infer([]) == []
    assert engine.shapes == []


def test_a_failing_batch_fails_its_callers_and_the_next_ones_are_served() -> None:
    class Fails(Echo):
        def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            found = super().infer(batch)
            if batch.input_ids.max() == 13:
                raise RuntimeError("no such input")
            return found

    engine = Fails()
    batcher = Batcher(engine)
    with pytest.raises(RuntimeError, match="no such input"):
        batcher.infer([window(10, 13), window(300, 1)])
    ((start, _),) = batcher.infer([window(10, 2)])
    assert start[0] == 2
    assert batcher._rows == []


def test_those_who_wait_behind_a_failing_batch_are_served() -> None:
    class FailsFirst(Echo):
        def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
            first = not self.shapes
            found = super().infer(batch)
            if first:
                raise RuntimeError("broken")
            return found

    engine = FailsFirst(open=False)
    batcher = Batcher(engine)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(batcher.infer, [window(10, 1)])
        assert engine.inside.acquire(timeout=10)
        rest = [threads.submit(batcher.infer, [window(10, number)]) for number in (2, 3)]
        while len(batcher._rows) < 2:
            assert not first.done()
        engine.gate.set()
        with pytest.raises(RuntimeError, match="broken"):
            first.result(timeout=10)
        assert [future.result(timeout=10)[0][0][0] for future in rest] == [2.0, 3.0]


@given(st.lists(st.integers(1, 384), min_size=1, max_size=40), st.floats(100, 5000))
def test_the_longest_waiting_goes_first_in_a_batch_of_a_prepared_size_within_the_budget(
    lengths: list[int], most: float
) -> None:
    chosen = choose(lengths, most)
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) in (1, 2, 4, 8)
    longest = max(lengths[index] for index in chosen)
    assert len(chosen) == 1 or len(chosen) * -(-longest // BATCH_BUCKET) * BATCH_BUCKET <= most


def test_rows_of_equal_length_go_together_and_a_long_one_does_not_hold_short_ones() -> None:
    assert sorted(choose([64] * 9, 4000)) == list(range(8))
    assert choose([30, 380], 4000) == [0]
    assert sorted(choose([64, 380, 64, 60, 63], 4000)) == [0, 2, 3, 4]


def test_slow_batches_make_the_next_ones_smaller() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            self.now += 2.0
            return self.now

    engine = Echo()
    batcher = Batcher(engine, clock=Clock())
    for _ in range(20):
        batcher.infer([window(64)])
    engine.shapes.clear()
    batcher.infer([window(64) for _ in range(4)])
    assert engine.shapes == [(1, 64)] * 4
