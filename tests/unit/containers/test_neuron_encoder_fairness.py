"""A core group's requests take turns, and nothing is run or kept in the queue for those who have left."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.neuron_encoder.artifact import INPUTS, Bucket, NeuronArtifact
from containers.neuron_encoder.scheduler import Scheduler
from containers.neuron_encoder.tokenizing import TokenizerThreads
from containers.serving.cancellation import Cancellation, while_wanted
from containers.serving.errors import ServingError
from containers.serving.question_answering.answers import Item
from containers.serving.question_answering.requests import MAX_WINDOWS
from containers.serving.question_answering.windows import RequestTooLongError, Window, Windower, WindowLimits
from tests.unit.containers.test_neuron_encoder_batches import DEADLINE, Core, Nobody, window

LIMITS = WindowLimits(max_seq_length=32, doc_stride=8, max_query_length=8)
Use = Callable[[Scheduler, Core, list[float]], Awaitable[None]]


def scheduled(use: Use, *, batches: Sequence[int] = (1,), lengths: Sequence[int] = (16, 32)) -> None:
    """A scheduler of one model whose batches of any size take one second."""

    async def go() -> None:
        core, now = Core(), [0.0]
        buckets = tuple(Bucket(length=length, batch=size, file="m") for length in lengths for size in batches)
        artifact = NeuronArtifact(
            target="inf2", sdk={}, inputs=INPUTS, buckets=buckets, cores_per_copy=1, device_bytes=0
        )
        scheduler = Scheduler(
            artifact,
            [core.device("model")],
            Nobody(),
            {(length, size): 1.0 for length in lengths for size in batches},
            deadline_seconds=DEADLINE,
            capacity=100,
            clock=lambda: now[0],
        )
        try:
            await use(scheduler, core, now)
        finally:
            core.let(1000)
            await scheduler.close()

    asyncio.run(go())


async def asked(scheduler: Scheduler, windows: int, tokens: int = 10) -> "asyncio.Task[int]":
    async def go() -> int:
        return len(await scheduler.infer(0, [window(tokens) for _ in range(windows)]))

    task = asyncio.create_task(go())
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(("small", "large"), [(10, 10), (10, 30), (30, 10)])
def test_a_small_request_of_any_length_is_next_but_for_what_is_at_the_core(small: int, large: int) -> None:
    async def use(scheduler: Scheduler, core: Core, now: list[float]) -> None:
        many = await asked(scheduler, 60, tokens=large)
        now[0] += 2 * DEADLINE
        one = await asked(scheduler, 1, tokens=small)
        now[0] += 2 * DEADLINE
        # Two batches of the large request are at the core already.
        core.let(3)
        assert await asyncio.wait_for(one, 20) == 1
        core.let(100)
        assert await asyncio.wait_for(many, 20) == 60

    scheduled(use)


def test_a_small_request_is_next_among_large_ones_that_have_had_turns() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        large = [await asked(scheduler, 8) for _ in range(10)]
        core.let(30)
        for _ in range(2000):
            if len(core.shapes) == 30:
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        small = await asked(scheduler, 1)
        core.let(3)
        assert await asyncio.wait_for(small, 20) == 1
        core.let(100)
        assert await asyncio.wait_for(asyncio.gather(*large), 20) == [8] * 10

    scheduled(use)


def test_windows_of_a_request_that_was_cancelled_leave_the_queue_at_once() -> None:
    async def use(scheduler: Scheduler, core: Core, _now: list[float]) -> None:
        running = await asked(scheduler, 1)
        left = await asked(scheduler, 90)
        assert scheduler.waiting(0) == 89
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert scheduler.waiting(0) == 0
        # They no longer count against the capacity of 100.
        following = await asked(scheduler, 50)
        core.let(60)
        assert list(await asyncio.wait_for(asyncio.gather(running, following), 20)) == [1, 50]

    scheduled(use)


def test_a_window_that_fits_no_traced_length_leaves_nothing_of_its_request_behind() -> None:
    async def use(scheduler: Scheduler, _core: Core, _now: list[float]) -> None:
        with pytest.raises(ValueError, match="33 tokens, the longest traced length is 32"):
            await scheduler.infer(0, [window(10), window(33)])
        assert scheduler.waiting(0) == 0

    scheduled(use)


async def never() -> dict[str, object]:
    """The messages of a client that stays."""
    await asyncio.Event().wait()
    raise AssertionError


def test_the_work_of_a_client_that_leaves_is_cancelled() -> None:
    async def go() -> None:
        started, leaves, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, object]:
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def work() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        waiting = asyncio.create_task(while_wanted(receive, work(), Cancellation()))
        await started.wait()
        leaves.set()
        with pytest.raises(ServingError, match="closed its connection") as raised:
            await asyncio.wait_for(waiting, 20)
        assert raised.value.status == 499
        await asyncio.wait_for(cancelled.wait(), 20)

    asyncio.run(go())


def test_the_work_of_a_request_past_its_deadline_is_cancelled() -> None:
    async def go() -> None:
        with pytest.raises(ServingError, match=r"not ready within 0\.05 s") as raised:
            await asyncio.wait_for(while_wanted(never, asyncio.sleep(600), Cancellation(0.05)), 20)
        assert raised.value.status == 504

    asyncio.run(go())


def test_work_that_ends_or_fails_is_passed_on() -> None:
    async def fails() -> None:
        raise KeyError("as it was")

    async def go() -> None:
        assert await while_wanted(never, asyncio.sleep(0, "done"), Cancellation()) == "done"
        with pytest.raises(KeyError, match="as it was"):
            await while_wanted(never, fails(), Cancellation())

    asyncio.run(go())


class Recorder(Windower):
    """A windower that records the questions it was given."""

    def __init__(self) -> None:
        words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "w"]
        tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        super().__init__(tokenizer, LIMITS)
        self.questions: list[str] = []

    def windows(self, question: str, context: str) -> list[Window]:
        self.questions.append(question)
        return super().windows(question, context)


def test_a_request_of_too_many_windows_is_refused_and_a_large_one_is_cut_no_further_than_it_may_be() -> None:
    async def go() -> None:
        windower = Recorder()
        threads = TokenizerThreads(windower, 1)
        try:
            # Each item of 800 words has about 60 windows; 64 of them are more than what is cut at once.
            with pytest.raises(RequestTooLongError, match=f"a request may have at most {MAX_WINDOWS}") as raised:
                await threads.windows([Item(f"q{number}", "w " * 800) for number in range(64)])
            assert raised.value.code == "too_many_windows"
            assert windower.questions == [f"q{number}" for number in range(raised.value.item + 1)]
            assert raised.value.item < 5
            with pytest.raises(RequestTooLongError, match="of 30 items need"):
                await threads.windows([Item("q", "w " * 130) for _ in range(30)])
            assert [len(each) for each in await threads.windows([Item("q", "w"), Item("q", "w " * 25)])] == [1, 1]
        finally:
            await threads.close()

    asyncio.run(go())


def test_requests_that_were_cancelled_before_their_turn_are_not_tokenized() -> None:
    async def go() -> None:
        windower = Recorder()
        threads = TokenizerThreads(windower, 0)
        large = [Item("left", "w " * 700) for _ in range(40)]
        left = asyncio.create_task(threads.windows(large))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        stays = asyncio.create_task(threads.windows([Item("stays", "w " * 20_000)]))
        await asyncio.sleep(0)
        threads._jobs.put(None)
        await asyncio.to_thread(threads._work)
        with pytest.raises(RequestTooLongError):
            await stays
        assert windower.questions == ["stays"]

    asyncio.run(go())


def test_the_windows_of_a_small_request_do_not_depend_on_what_is_cut_with_it() -> None:
    async def go() -> None:
        threads = TokenizerThreads(Recorder(), 1)
        try:
            items = [Item("w w", "w " * count) for count in (1, 30, 60)]
            alone = [await threads.windows([item]) for item in items]
            together = await asyncio.gather(*(threads.windows([item]) for item in items))
            for (mine,), (theirs,) in zip(alone, together, strict=True):
                assert [each.input_ids.tolist() for each in mine] == [each.input_ids.tolist() for each in theirs]
                assert np.array_equal(mine[0].offsets, theirs[0].offsets)
        finally:
            await threads.close()

    asyncio.run(go())
