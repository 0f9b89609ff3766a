"""Windows of many threads share the engine's batches: the right answers, each to its own caller, and none is lost."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.encoder.batching import BATCH_BUCKET, ENOUGH_TOKENS, LENGTH_BUCKET, Batcher, choose, fill
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window


def window(tokens: int, first: int = 1) -> Window:
    ids = np.full(tokens, first, dtype=np.int64)
    return Window(ids, np.zeros_like(ids), 2, np.zeros((max(0, tokens - 3), 2), dtype=np.int64))


class Echo:
    """Logits are the tokens themselves. It holds every batch until it may go on, and knows what it was given."""

    def __init__(self, *, open: bool = True, packs: bool = False) -> None:
        self.packs = packs
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


def until(condition: Callable[[], bool]) -> None:
    """Waits for it, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def gathered(engine: Echo, batcher: Batcher, windows: list[Window]) -> list[tuple[FloatArray, FloatArray]]:
    """Asks for the first window alone, for all others while it runs, each on a thread of its own."""
    with ThreadPoolExecutor(len(windows)) as threads:
        first = threads.submit(batcher.infer, windows[:1])
        assert engine.inside.acquire(timeout=10)
        rest = [threads.submit(batcher.infer, [each]) for each in windows[1:]]
        until(lambda: len(batcher._rows) == len(rest))
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
        until(lambda: len(batcher._rows) == 2)
        engine.gate.set()
        with pytest.raises(RuntimeError, match="broken"):
            first.result(timeout=10)
        assert [future.result(timeout=10)[0][0][0] for future in rest] == [2.0, 3.0]


GAINS = {1: 1.0, 2: 1.14, 4: 1.26, 8: 1.36}


@given(st.lists(st.integers(1, 384), min_size=1, max_size=40), st.floats(100, 5000), st.data())
def test_the_one_whose_turn_it_is_goes_in_a_batch_of_a_prepared_size_within_the_budget(
    lengths: list[int], most: float, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(lengths) - 1))
    chosen = choose(lengths, first, most, GAINS)
    assert first in chosen
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) in GAINS
    longest = max(lengths[index] for index in chosen)
    assert len(chosen) == 1 or len(chosen) * -(-longest // BATCH_BUCKET) * BATCH_BUCKET <= most


def test_rows_of_equal_length_go_together_and_a_long_one_does_not_hold_short_ones() -> None:
    assert sorted(choose([64] * 9, 0, 4000, GAINS)) == list(range(8))
    assert choose([30, 380], 0, 4000, GAINS) == [0]
    assert sorted(choose([64, 380, 64, 60, 63], 0, 4000, GAINS)) == [0, 2, 3, 4]


@given(st.lists(st.integers(1, 384), min_size=1, max_size=40), st.floats(100, 5000), st.data())
def test_where_nothing_is_padded_rows_go_in_their_order_until_the_engine_is_busy(
    lengths: list[int], most: float, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(lengths) - 1))
    chosen = fill(lengths, first, most)
    assert chosen[0] == first
    assert len(set(chosen)) == len(chosen)
    assert chosen[1:] == sorted(chosen[1:])
    assert sum(lengths[index] for index in chosen[:-1]) < ENOUGH_TOKENS
    assert len(chosen) == 1 or sum(lengths[index] for index in chosen) <= most


def test_short_rows_go_together_and_a_long_one_alone_where_nothing_is_padded() -> None:
    assert fill([20, 380, 20, 20, 20], 0, 4000) == [0, 1]
    assert fill([20, 20, 30, 20, 20], 2, 4000) == [2, 0, 1]
    assert fill([64, 20], 0, 4000) == [0]
    assert fill([20, 380, 20], 0, 100) == [0, 2]


def test_an_engine_that_packs_is_given_no_padding_but_to_the_longest_row() -> None:
    engine = Echo(open=False, packs=True)
    windows = [window(length, number) for number, length in enumerate((17, 13, 20, 40, 50), 1)]
    answers = gathered(engine, Batcher(engine), windows)
    assert engine.shapes[0] == (1, 17)
    assert sum(rows for rows, _ in engine.shapes[1:]) == 4
    assert all(tokens in (13, 20, 40, 50) for _, tokens in engine.shapes[1:])
    for number, (each, (start, _)) in enumerate(zip(windows, answers, strict=True), 1):
        assert start.tolist() == [float(number)] * len(each.input_ids)


class Clock:
    """Every look at it is 2 s later than the last."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


def test_slow_batches_make_the_next_ones_smaller() -> None:
    engine = Echo()
    batcher = Batcher(engine, clock=Clock())
    for _ in range(20):
        batcher.infer([window(64)])
    engine.shapes.clear()
    batcher.infer([window(64) for _ in range(4)])
    assert engine.shapes == [(1, 64)] * 4


def with_lanes(count: int) -> tuple[Echo, list[Echo], Batcher]:
    """An engine that holds its batches, lanes that do too, and the batcher that has loaded them."""
    whole, lanes = Echo(open=False), [Echo(open=False) for _ in range(count)]
    batcher = Batcher(whole, lambda: lanes, clock=Clock())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(batcher.infer, [window(16)])
        assert whole.inside.acquire(timeout=10)
        second = threads.submit(batcher.infer, [window(16)])
        until(lambda: batcher._lanes is not None)
        whole.gate.set()
        for each in lanes:
            each.gate.set()
        first.result(timeout=10)
        second.result(timeout=10)
    whole.gate.clear()
    for each in lanes:
        each.gate.clear()
        each.shapes.clear()
    whole.shapes.clear()
    return whole, lanes, batcher


def test_lanes_are_loaded_when_requests_first_wait_for_each_other_and_not_before() -> None:
    loaded: list[int] = []

    def load() -> list[Echo]:
        loaded.append(1)
        return [Echo(), Echo()]

    batcher = Batcher(Echo(), load)
    for _ in range(5):
        batcher.infer([window(16), window(20)])
    assert loaded == []
    _, _, batcher = with_lanes(2)
    assert batcher._lanes is not None


def test_a_lone_request_has_all_cores_even_where_there_are_lanes() -> None:
    whole, lanes, batcher = with_lanes(2)
    whole.gate.set()
    batcher.infer([window(16)])
    assert whole.shapes == [(1, 16)]
    assert [each.shapes for each in lanes] == [[], []]


def test_two_requests_run_at_the_same_time_on_a_lane_each_once_the_engine_is_free() -> None:
    whole, lanes, batcher = with_lanes(2)
    with ThreadPoolExecutor(3) as threads:
        alone = threads.submit(batcher.infer, [window(16, 7)])
        until(lambda: len(whole.shapes) == 1)
        pair = [threads.submit(batcher.infer, [window(length, number)]) for number, length in ((1, 200), (2, 16))]
        until(lambda: len(batcher._rows) == 2)
        assert [each.shapes for each in lanes] == [[], []]
        whole.gate.set()
        for each in lanes:
            assert each.inside.acquire(timeout=10)
            each.gate.set()
        assert [future.result(timeout=10)[0][0][0] for future in (alone, *pair)] == [7.0, 1.0, 2.0]
    assert sorted(shape for each in lanes for shape in each.shapes) == [(1, 16), (1, 208)]


def test_lanes_that_do_less_together_are_left() -> None:
    whole, lanes, batcher = with_lanes(2)
    assert batcher._lanes is not None
    batcher._lanes.rate = 0.0
    for each in (whole, *lanes):
        each.gate.set()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: batcher.infer([window(16, number)]), range(1, 40)))
    assert [each.shapes for each in lanes] == [[], []]


def test_what_a_lone_request_gets_of_all_cores_does_not_keep_crowds_from_the_lanes() -> None:
    whole, lanes, batcher = with_lanes(2)
    assert batcher._lanes is not None
    # Nobody disturbs the lone request's threads; several requests had less of the same engine.
    batcher._all_cores.rate, batcher._all_cores.shared_rate = 9000.0, 7000.0
    batcher._lanes.rate = 4200.0
    with ThreadPoolExecutor(3) as threads:
        alone = threads.submit(batcher.infer, [window(16)])
        until(lambda: len(whole.shapes) == 1)
        pair = [threads.submit(batcher.infer, [window(200)]) for _ in range(2)]
        until(lambda: len(batcher._rows) == 2)
        for each in (whole, *lanes):
            each.gate.set()
        for future in (alone, *pair):
            future.result(timeout=10)
    assert whole.shapes == [(1, 16)]
    assert [len(each.shapes) for each in lanes] == [1, 1]


def test_a_lone_request_has_all_cores_however_little_several_got_of_them() -> None:
    whole, lanes, batcher = with_lanes(2)
    assert batcher._lanes is not None
    batcher._all_cores.rate, batcher._all_cores.shared_rate, batcher._lanes.rate = 9000.0, 1000.0, 4200.0
    whole.gate.set()
    batcher.infer([window(16)])
    assert whole.shapes == [(1, 16)]
    assert [each.shapes for each in lanes] == [[], []]


def test_only_a_run_that_others_wait_for_counts_as_shared() -> None:
    whole, _, batcher = with_lanes(2)
    batcher._all_cores.shared_rate = 7000.0
    whole.gate.set()
    rate = batcher._all_cores.rate
    for _ in range(2):
        batcher.infer([window(64)])
    assert batcher._all_cores.rate != rate
    assert batcher._all_cores.shared_rate == 7000.0


def test_every_window_is_answered_on_all_ways_at_once() -> None:
    whole, lanes, batcher = with_lanes(3)
    for each in (whole, *lanes):
        each.gate.set()
    with ThreadPoolExecutor(12) as threads:
        futures = [
            threads.submit(batcher.infer, [window(10 + number % 90, number) for _ in range(1 + number % 3)])
            for number in range(1, 401)
        ]
        for number, future in enumerate(futures, 1):
            found = future.result(timeout=30)
            assert len(found) == 1 + number % 3
            assert all(start.tolist() == [float(number)] * (10 + number % 90) for start, _ in found)
    assert max(each.most_at_once for each in (whole, *lanes)) == 1
    assert batcher._rows == []
    assert batcher._tickets == 0


def test_lanes_that_cannot_be_loaded_leave_the_engine_to_all(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> list[Echo]:
        raise MemoryError("no room")

    engine = Echo(open=False)
    answers = gathered(engine, Batcher(engine, load), [window(16, number) for number in range(1, 5)])
    assert [start[0] for start, _ in answers] == [1.0, 2.0, 3.0, 4.0]
    assert "requests share all cores" in caplog.text
