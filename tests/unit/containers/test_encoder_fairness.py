"""A request of many windows makes no small one wait for all of them, and nothing is run for those who have left."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.encoder.batching import Batcher, Logits
from containers.encoder.handler import make_handler
from containers.encoder.question_answering import QuestionAnswering
from containers.serving.app import Answer, Invocation, ServingOptions, create_app
from containers.serving.cancellation import RESPONSE_SECONDS, Cancellation
from containers.serving.errors import ServingError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower, WindowLimits

WAIT = 20.0
"""Seconds that nothing takes but a deadlock."""
VOCABULARY = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
SMALL, LARGE = 1, 2


def window(tokens: int, first: int) -> Window:
    ids = np.full(tokens, first, dtype=np.int64)
    return Window(ids, np.zeros_like(ids), 2, np.zeros((max(0, tokens - 3), 2), dtype=np.int64))


class Steps:
    """An engine that runs a batch when it is let, and records whose windows each held."""

    def __init__(self, *, packs: bool = True) -> None:
        self.packs = packs
        self.batches: list[list[int]] = []
        self.inside, self.permits = threading.Semaphore(0), threading.Semaphore(0)

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        self.batches.append(batch.input_ids[:, 0].tolist())
        self.inside.release()
        assert self.permits.acquire(timeout=WAIT)
        logits = batch.input_ids.astype(np.float32)
        return logits, logits

    def let(self, batches: int) -> None:
        self.permits.release(batches)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, twenty seconds at most."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Requests:
    """Requests on threads of their own, each known to wait before the next one comes."""

    def __init__(self, engine: Steps, threads: ThreadPoolExecutor) -> None:
        self.engine, self._threads = engine, threads
        self.batcher = Batcher(engine)

    def send(
        self, windows: int, *, of: int, tokens: int = 100, cancellation: Cancellation | None = None
    ) -> "Future[list[Logits]]":
        before = self.batcher._tickets
        given = [window(tokens, of) for _ in range(windows)]
        future = self._threads.submit(self.batcher.infer, given, cancellation)
        until(lambda: self.batcher._tickets > before)
        return future


@pytest.mark.parametrize("packs", [True, False])
def test_a_small_request_runs_next_however_many_windows_of_a_large_one_wait(packs: bool) -> None:
    engine = Steps(packs=packs)
    with ThreadPoolExecutor(4) as threads:
        requests = Requests(engine, threads)
        large = requests.send(100, of=LARGE)
        assert engine.inside.acquire(timeout=WAIT)
        small = requests.send(1, of=SMALL)
        engine.let(2)
        assert len(small.result(timeout=WAIT)) == 1
        assert SMALL in engine.batches[1]
        engine.let(200)
        assert len(large.result(timeout=WAIT)) == 100


def test_a_small_request_runs_next_among_many_large_ones_that_have_had_turns() -> None:
    engine = Steps()
    with ThreadPoolExecutor(12) as threads:
        requests = Requests(engine, threads)
        large = [requests.send(16, of=LARGE + number) for number in range(10)]
        # Each has had several windows run, and they differ by one at most.
        engine.let(35)
        until(lambda: len(engine.batches) == 36)
        small = requests.send(1, of=SMALL)
        engine.let(2)
        small.result(timeout=WAIT)
        assert engine.batches[36] == [SMALL]
        engine.let(500)
        assert [len(future.result(timeout=WAIT)) for future in large] == [16] * 10


def test_large_requests_share_the_engine_by_their_work_and_none_starves() -> None:
    engine = Steps()
    with ThreadPoolExecutor(4) as threads:
        requests = Requests(engine, threads)
        long = requests.send(20, of=LARGE, tokens=200)
        assert engine.inside.acquire(timeout=WAIT)
        short = requests.send(20, of=SMALL, tokens=100)
        engine.let(17)
        until(lambda: len(engine.batches) == 18)
        counts = [engine.batches.count([who]) for who in (SMALL, LARGE)]
        # The second began a head start later than the first window, and its windows are half as long.
        assert counts[0] >= counts[1]
        assert counts[1] >= 4
        engine.let(100)
        long.result(timeout=WAIT)
        short.result(timeout=WAIT)


def test_a_large_request_gets_its_turns_while_small_ones_keep_coming() -> None:
    engine = Steps()
    with ThreadPoolExecutor(8) as threads:
        requests = Requests(engine, threads)
        large = requests.send(8, of=LARGE)
        assert engine.inside.acquire(timeout=WAIT)
        small = [requests.send(1, of=SMALL)]
        for _ in range(60):
            if len(small) < 3:
                small.append(requests.send(1, of=SMALL))
            engine.let(1)
            assert engine.inside.acquire(timeout=WAIT)
            small = [each for each in small if not each.done()]
        assert engine.batches[:60].count([LARGE]) >= 5
        engine.let(200)
        assert len(large.result(timeout=WAIT)) == 8


def test_requests_of_one_window_run_in_the_order_in_which_they_came() -> None:
    engine = Steps()
    with ThreadPoolExecutor(12) as threads:
        requests = Requests(engine, threads)
        futures = [requests.send(1, of=number) for number in range(1, 11)]
        engine.let(20)
        for future in futures:
            future.result(timeout=WAIT)
    assert engine.batches == [[number] for number in range(1, 11)]


def test_windows_whose_client_has_left_are_not_run_and_its_thread_is_free_at_once() -> None:
    engine = Steps()
    cancellation = Cancellation()
    with ThreadPoolExecutor(4) as threads:
        requests = Requests(engine, threads)
        first = requests.send(1, of=SMALL)
        assert engine.inside.acquire(timeout=WAIT)
        left = requests.send(50, of=LARGE, cancellation=cancellation)
        cancellation.cancel()
        with pytest.raises(ServingError) as raised:
            left.result(timeout=WAIT)
        assert (raised.value.status, raised.value.code) == (499, "client_left")
        assert requests.batcher._rows == []
        engine.let(1)
        first.result(timeout=WAIT)
        until(lambda: requests.batcher._tickets == 0)
    assert engine.batches == [[SMALL]]


def test_what_runs_when_its_client_leaves_is_finished_and_the_rest_is_dropped() -> None:
    engine = Steps()
    cancellation = Cancellation()
    with ThreadPoolExecutor(4) as threads:
        requests = Requests(engine, threads)
        left = requests.send(50, of=LARGE, cancellation=cancellation)
        assert engine.inside.acquire(timeout=WAIT)
        following = requests.send(1, of=SMALL)
        cancellation.cancel()
        engine.let(2)
        assert len(following.result(timeout=WAIT)) == 1
        with pytest.raises(ServingError, match="closed its connection"):
            left.result(timeout=WAIT)
    assert engine.batches == [[LARGE], [SMALL]]


def test_a_request_whose_client_left_before_it_came_is_not_run() -> None:
    engine = Steps()
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(ServingError, match="closed its connection"):
        Batcher(engine).infer([window(10, LARGE)], cancellation)
    assert engine.batches == []


def test_windows_older_than_sagemaker_waits_are_not_run() -> None:
    now = [0.0]
    engine = Steps()
    with ThreadPoolExecutor(4) as threads:
        requests = Requests(engine, threads)
        running = requests.send(1, of=SMALL)
        assert engine.inside.acquire(timeout=WAIT)
        late = requests.send(50, of=LARGE, cancellation=Cancellation(clock=lambda: now[0]))
        now[0] = RESPONSE_SECONDS
        engine.let(1)
        running.result(timeout=WAIT)
        with pytest.raises(ServingError, match="not ready within 60 s") as raised:
            late.result(timeout=WAIT)
        assert raised.value.status == 504
    assert engine.batches == [[SMALL]]


def question_answering(engine: Steps) -> QuestionAnswering:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return QuestionAnswering(engine, Windower(tokenizer, WindowLimits(64, 16, 16)))


def post(app: object, body: bytes, leaves: asyncio.Event) -> "asyncio.Task[int]":
    """The status of a request whose client leaves when it is told to; 0 without a response."""

    async def go() -> int:
        status, sent = 0, False

        async def receive() -> dict[str, object]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                assert isinstance(message["status"], int)
                status = message["status"]

        scope: dict[str, object] = {
            "type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "server": ("container", 80), "client": None,
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[operator]  # an ASGI application of dictionaries
        return status

    return asyncio.create_task(go())


def test_the_image_drops_the_windows_of_a_client_that_closes_its_connection() -> None:
    engine = Steps()
    app = create_app(make_handler(question_answering(engine), "int8"), ServingOptions(workers=4))
    item = {"question": "q", "context": "word " * 1000}

    async def go() -> None:
        leaves, stays = asyncio.Event(), asyncio.Event()
        left = post(app, json.dumps(item).encode(), leaves)
        await asyncio.to_thread(engine.inside.acquire, timeout=WAIT)
        leaves.set()
        await asyncio.sleep(0.1)
        engine.let(1)
        assert await asyncio.wait_for(left, WAIT) == 499
        assert len(engine.batches) == 1
        engine.let(100)
        assert await asyncio.wait_for(post(app, json.dumps({**item, "context": "word"}).encode(), stays), WAIT) == 200

    asyncio.run(go())


def test_a_request_whose_client_left_while_it_waited_for_a_thread_is_not_tokenized() -> None:
    class NeverAsked:
        def answer(self, *_arguments: object, **_options: object) -> list[object]:
            raise AssertionError

    cancellation = Cancellation()
    cancellation.cancel()
    handle = make_handler(NeverAsked(), "int8")  # type: ignore[arg-type]  # its answers are never used
    with pytest.raises(ServingError, match="closed its connection"):
        handle(Invocation(b'{"question": "q", "context": "c"}', "application/json", cancellation=cancellation))


def test_a_client_that_stays_is_answered_by_any_model() -> None:
    app = create_app(lambda invocation: Answer(invocation.body), ServingOptions())

    async def go() -> int:
        return await asyncio.wait_for(post(app, b"{}", asyncio.Event()), 20)

    assert asyncio.run(go()) == 200
