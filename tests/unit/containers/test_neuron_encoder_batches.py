"""Batches grow while the core works, a lone window never waits, and none stands behind others past the deadline."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from containers.neuron_encoder.artifact import INPUTS, Bucket, NeuronArtifact
from containers.neuron_encoder.scheduler import Scheduler
from containers.serving.errors import ServingError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window

DEADLINE = 0.002


class Core:
    """A device that runs a batch only when it is let, and records the shapes that it ran."""

    def __init__(self) -> None:
        self.shapes: list[tuple[str, int, int]] = []
        self.rows: list[int] = []
        self._permits = threading.Semaphore(0)
        self._turn = threading.Lock()

    def let(self, batches: int) -> None:
        self._permits.release(batches)

    def device(self, name: str) -> "Copy":
        return Copy(self, name)

    def run(self, name: str, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        with self._turn:
            assert self._permits.acquire(timeout=20)
            self.shapes.append((name, *batch.input_ids.shape))
            self.rows.append(int((batch.input_ids[:, 0] > 0).sum()))
        logits = batch.input_ids.astype(np.float32)
        return logits, logits + 1


class Copy:
    """A model on the core."""

    def __init__(self, core: Core, name: str) -> None:
        self._core, self._name = core, name

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        return self._core.run(self._name, batch)


class Nobody:
    """Takes no notice of batches."""

    def batch(self, _model: int, _length: int, rows: int, size: int) -> None:
        assert rows <= size


def window(tokens: int = 10) -> Window:
    ids = np.arange(1, tokens + 1, dtype=np.int64)
    return Window(ids, np.zeros_like(ids), 1, np.zeros((0, 2), dtype=np.int64))


def scheduled(
    use: Callable[[Scheduler, Core, list[float]], Awaitable[None]],
    *,
    models: int = 1,
    lengths: tuple[int, ...] = (16, 32),
    capacity: int = 100,
    seconds: tuple[float, float, float] = (1, 1, 1),
) -> None:
    """seconds: that batches of 1, 2 and 4 take."""

    async def go() -> None:
        core, now = Core(), [0.0]
        artifact = NeuronArtifact(
            target="inf2",
            sdk={},
            inputs=INPUTS,
            buckets=tuple(Bucket(length=length, batch=batch, file="m") for length in lengths for batch in (1, 2, 4)),
            cores_per_copy=1,
            device_bytes=0,
        )
        scheduler = Scheduler(
            artifact,
            [core.device(f"model {index}") for index in range(models)],
            Nobody(),
            {(length, size): taken for length in lengths for size, taken in zip((1, 2, 4), seconds, strict=True)},
            deadline_seconds=DEADLINE,
            capacity=capacity,
            clock=lambda: now[0],
        )
        try:
            await use(scheduler, core, now)
        finally:
            core.let(100)
            await scheduler.close()

    asyncio.run(go())


async def asked(scheduler: Scheduler, count: int, *, model: int = 0, tokens: int = 10) -> list[asyncio.Task[object]]:
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(_infer(scheduler, model, [window(tokens)])) for _ in range(count)
    ]
    await asyncio.sleep(0)
    return tasks


async def _infer(scheduler: Scheduler, model: int, windows: list[Window]) -> object:
    return await scheduler.infer(model, windows)


def test_a_lone_window_goes_to_an_idle_core_at_once() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        core.let(1)
        (start, end), *rest = await scheduler.infer(0, [window(10)])
        assert (len(start), len(end), rest) == (10, 10, [])
        assert core.shapes == [("model 0", 1, 16)]

    scheduled(use)


def test_what_comes_while_the_core_works_is_one_batch_in_the_smallest_shape_that_holds_it() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        tasks = await asked(scheduler, 1) + await asked(scheduler, 3)
        core.let(2)
        await asyncio.gather(*tasks)
        assert core.shapes == [("model 0", 1, 16), ("model 0", 4, 16)]
        assert core.rows == [1, 3]

    scheduled(use)


def test_a_batch_takes_the_shape_that_does_most_windows_a_second() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        tasks = await asked(scheduler, 1) + await asked(scheduler, 3)
        core.let(3)
        await asyncio.gather(*tasks)
        assert [shape[1] for shape in core.shapes] == [1, 2, 1]

    scheduled(use, seconds=(1.0, 1.71, 3.13))


def test_a_full_batch_is_at_the_core_before_it_is_free() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        tasks = await asked(scheduler, 1) + await asked(scheduler, 6)
        assert scheduler.waiting(0) == 2
        core.let(3)
        await asyncio.gather(*tasks)
        assert [shape[1] for shape in core.shapes] == [1, 4, 2]

    scheduled(use)


def test_windows_go_to_the_shortest_length_that_holds_them() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        core.let(2)
        await scheduler.infer(0, [window(16)])
        await scheduler.infer(0, [window(17)])
        assert [shape[2] for shape in core.shapes] == [16, 32]
        with pytest.raises(ValueError, match="33 tokens, the longest traced length is 32"):
            await scheduler.infer(0, [window(33)])

    scheduled(use)


def test_the_fuller_batch_goes_first_until_another_is_past_its_deadline() -> None:
    async def use(scheduler: Scheduler, core: Core, now: list[float]) -> None:
        busy = await asked(scheduler, 1, model=0)
        rare = await asked(scheduler, 1, model=1)
        many = await asked(scheduler, 3, model=0)
        core.let(3)
        await asyncio.gather(*busy, *rare, *many)
        assert [shape[0] for shape in core.shapes] == ["model 0", "model 0", "model 1"]

        busy = await asked(scheduler, 1, model=0)
        rare = await asked(scheduler, 1, model=1)
        now[0] += DEADLINE
        many = await asked(scheduler, 3, model=0)
        core.let(3)
        await asyncio.gather(*busy, *rare, *many)
        assert [shape[0] for shape in core.shapes[3:]] == ["model 0", "model 1", "model 0"]

    scheduled(use, models=2)


def test_a_full_queue_refuses_with_retry_after_and_one_model_does_not_fill_anothers() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        tasks = await asked(scheduler, 3)
        with pytest.raises(ServingError, match="2 windows of this model are waiting") as raised:
            await scheduler.infer(0, [window()])
        assert (raised.value.status, raised.value.retry_after_seconds) == (503, 1)
        tasks += await asked(scheduler, 1, model=1)
        core.let(3)
        await asyncio.gather(*tasks)

    scheduled(use, models=2, capacity=2)


def test_a_request_larger_than_the_queue_is_served_when_nothing_waits() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        core.let(3)
        assert len(await scheduler.infer(0, [window() for _ in range(9)])) == 9

    scheduled(use, capacity=2)


def test_windows_that_nobody_waits_for_any_more_are_not_run() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        running = await asked(scheduler, 1)
        left = await asked(scheduler, 3)
        stays = await asked(scheduler, 1, tokens=20)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        core.let(2)
        await asyncio.gather(*running, *stays)
        assert core.shapes == [("model 0", 1, 16), ("model 0", 1, 32)]

    scheduled(use)


def test_windows_of_one_request_keep_their_order_over_several_batches() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        core.let(10)
        lengths = [10, 30, 12, 31, 5, 17, 16, 3]
        logits = await scheduler.infer(0, [window(tokens) for tokens in lengths])
        assert [len(start) for start, _ in logits] == lengths
        assert all(np.array_equal(end, start + 1) for start, end in logits)

    scheduled(use)
