"""What request bodies may take: bytes of all of them together, places for those that arrive in parts, and time."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from containers.serving import bodies as bodies_module
from containers.serving.app import Answer, Invocation, RunOnThread, ServingOptions, create_app
from containers.serving.bodies import UNCOUNTED_BYTES, Bodies
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError

Message = MutableMapping[str, Any]
WAIT_SECONDS = 20
MIB = 2**20


class Client:
    """A client that sends a body part by part, as the test says."""

    def __init__(self, *parts: bytes, end: bool = True) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        for index, part in enumerate(parts):
            self.send(part, more=not end or index + 1 < len(parts))
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def send(self, part: bytes, *, more: bool) -> None:
        self._messages.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        return await self._messages.get()

    @property
    def request(self) -> Request:
        return Request({"type": "http", "headers": []}, self.receive)

    async def ask(self, app: ASGIApp, path: str = "/invocations") -> int:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status, self.headers = message["status"], dict(message["headers"])
            else:
                self.body += message["body"]

        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
        await app(scope, self.receive, send)
        return self.status


def bodies(capacity: int = 12 * MIB, readers: int = 4, seconds: float = WAIT_SECONDS) -> Bodies:
    return Bodies(capacity_bytes=capacity, readers=readers, timeout_seconds=seconds)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(scenario(), WAIT_SECONDS)

    asyncio.run(limited())


async def refusal(reading: Awaitable[bytes]) -> ServingError:
    with pytest.raises(ServingError) as refused:
        await reading
    return refused.value


def test_a_body_is_whole_whatever_its_parts() -> None:
    async def scenario() -> None:
        for parts in ((b"",), (b"whole",), (b"a", b"", b"b" * 100_000, b"c")):
            assert await bodies().read(Client(*parts).request) == b"".join(parts)

    run(scenario)


@pytest.mark.parametrize("parts", [(bytes(MAX_BODY_BYTES),), (bytes(MAX_BODY_BYTES - 1), b"1")])
def test_a_lone_body_of_the_largest_size_fits_the_smallest_capacity(parts: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        limited = bodies(capacity=1)
        for _ in range(2):
            body = await limited.read(Client(*parts).request)
            assert len(body) == MAX_BODY_BYTES
            limited.release(body)

    run(scenario)


def test_bodies_over_the_capacity_are_503s_until_others_are_released() -> None:
    async def scenario() -> None:
        limited = bodies(capacity=12 * MIB)
        held = [await limited.read(Client(bytes(6 * MIB)).request) for _ in range(2)]
        for parts in ((bytes(MIB),), (bytes(MIB), bytes(MIB))):
            error = await refusal(limited.read(Client(*parts).request))
            assert (error.status, error.code, error.retry_after_seconds) == (503, "overloaded", 1)
            assert str(12 * MIB) in error.message
        limited.release(held.pop())
        assert len(await limited.read(Client(bytes(6 * MIB)).request)) == 6 * MIB

    run(scenario)


def test_large_bodies_never_keep_small_ones_out() -> None:
    async def scenario() -> None:
        limited = bodies(capacity=6 * MIB)
        await limited.read(Client(bytes(6 * MIB)).request)
        for _ in range(100):
            small = await limited.read(Client(bytes(UNCOUNTED_BYTES)).request)
            assert len(small) == UNCOUNTED_BYTES

    run(scenario)


def test_a_body_that_is_refused_or_cut_off_holds_nothing() -> None:
    async def scenario() -> None:
        limited = bodies(capacity=6 * MIB, seconds=0.05)
        gone = Client(bytes(3 * MIB), end=False)
        gone.leave()
        with pytest.raises(ClientDisconnect):
            await limited.read(gone.request)
        too_large = Client(bytes(4 * MIB), bytes(4 * MIB), bytes(MIB))
        assert (await refusal(limited.read(too_large.request))).status == 413
        assert (await refusal(limited.read(Client(bytes(5 * MIB), end=False).request))).status == 408
        assert len(await limited.read(Client(bytes(6 * MIB)).request)) == 6 * MIB

    run(scenario)


def test_bodies_that_arrive_in_parts_take_places_and_whole_ones_take_none() -> None:
    async def scenario() -> None:
        limited = bodies(readers=2)
        slow = [Client(b"part", end=False) for _ in range(2)]
        reading = [asyncio.ensure_future(limited.read(client.request)) for client in slow]
        silent = Client()
        waiting = asyncio.ensure_future(limited.read(silent.request))
        await asyncio.sleep(0)
        error = await refusal(limited.read(Client(b"part", end=False).request))
        assert (error.status, error.retry_after_seconds) == (503, 1)
        assert "2 bodies have partly arrived, the limit is 2" in error.message
        assert await limited.read(Client(b"whole").request) == b"whole"
        for client in (*slow, silent):
            client.send(b"end", more=False)
        assert await asyncio.gather(*reading, waiting) == [b"partend", b"partend", b"end"]

    run(scenario)


def test_slow_bodies_take_no_place_in_the_queue() -> None:
    async def scenario() -> None:
        app = create_app(lambda invocation: Answer(invocation.body), ServingOptions(queue_capacity=1, readers=10))
        slow = [Client(b"part", end=False) for _ in range(10)]
        asking = [asyncio.ensure_future(client.ask(app)) for client in slow]
        await asyncio.sleep(0)
        for _ in range(3):
            quick = Client(b"whole")
            assert (await quick.ask(app), quick.body) == (200, b"whole")
        refused = Client(b"part", end=False)
        assert await refused.ask(app) == 503
        assert refused.headers[b"retry-after"] == b"1"
        for client in slow:
            client.leave()
        await asyncio.gather(*asking)
        assert {client.status for client in slow} == {499}

    run(scenario)


def test_forty_large_bodies_at_once_are_answered_or_refused_and_none_stays() -> None:
    def refuse(invocation: Invocation) -> Answer:
        raise ServingError(400, "invalid_json", f"no JSON of {len(invocation.body)} bytes; send JSON")

    async def scenario() -> None:
        app = create_app(refuse, ServingOptions(pending_bytes=18 * MIB))
        clients = [Client(bytes(3 * MIB), bytes(3 * MIB)) for _ in range(40)]
        statuses = await asyncio.gather(*(client.ask(app) for client in clients))
        assert set(statuses) == {400, 503}
        assert statuses.count(400) >= 3
        assert all(client.headers[b"retry-after"] == b"1" for client in clients if client.status == 503)
        assert await Client(bytes(6 * MIB)).ask(app) == 400

    run(scenario)


def test_memory_goes_back_to_the_system_after_many_bytes_of_large_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    monkeypatch.setattr(bodies_module, "return_freed_memory", lambda: returned.append(1))

    async def scenario() -> None:
        limited = bodies()
        for size, count, expected in ((6 * MIB, 5, 0), (UNCOUNTED_BYTES, 1000, 0), (6 * MIB, 1, 1), (6 * MIB, 6, 2)):
            for _ in range(count):
                limited.release(await limited.read(Client(bytes(size)).request))
            await asyncio.sleep(0.05)
            assert len(returned) == expected

    run(scenario)


class Tracked:
    """What a failing model held; it goes when nothing refers to the failure's frames."""


@pytest.mark.parametrize("failure", [ServingError(400, "invalid_json", "send JSON"), RuntimeError("broken")])
def test_what_a_failed_request_held_is_freed_without_the_collector(failure: Exception) -> None:
    found: list[weakref.ref[Tracked]] = []

    def fail(_invocation: Invocation) -> Answer:
        held = Tracked()
        found.append(weakref.ref(held))
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise failure from error

    async def scenario() -> None:
        gc.disable()
        try:
            await Client(b"?").ask(create_app(fail, ServingOptions()))
            for _ in range(100):
                await asyncio.sleep(0.01)
                if found[0]() is None:
                    return
            pytest.fail("the frames of the failure are still there")
        finally:
            gc.enable()

    run(scenario)


def test_a_model_may_leave_what_takes_long_to_a_thread() -> None:
    asked: list[bool] = []

    def invoke(invocation: Invocation) -> Answer:
        asked.append(invocation.on_event_loop)
        if invocation.on_event_loop and invocation.body == b"long":
            raise RunOnThread
        return Answer(invocation.body)

    async def scenario() -> None:
        app = create_app(invoke, ServingOptions(inline_bytes=10))
        for body in (b"short", b"long", b"over ten bytes"):
            client = Client(body)
            assert (await client.ask(app), client.body) == (200, body)

    run(scenario)
    assert asked == [True, True, False, False]


def test_an_error_that_quotes_the_request_is_shortened() -> None:
    error = ServingError(400, "invalid_field", "x" * MAX_BODY_BYTES, "y" * MAX_BODY_BYTES).body()["error"]
    assert (len(error["message"]), len(error["field"])) == (2000, 2000)
    assert ServingError(400, "invalid_field", "short", "field").body()["error"]["message"] == "short"
