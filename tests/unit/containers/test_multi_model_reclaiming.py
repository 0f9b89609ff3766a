"""Memory that requests have left behind keeps no model out, and no list of models is larger than a response may be."""

import asyncio
import ctypes
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from containers.serving import memory, multi_model
from containers.serving.app import Answer, Invocation, ServingOptions
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.memory import release_unused_memory, resident_bytes
from containers.serving.multi_model import MAX_TEXT, MemoryBudget, create_multi_model_app

T = TypeVar("T")
BUDGET = MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=10)


class Echo:
    size_bytes = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def invoke(self, invocation: Invocation) -> Answer:
        return Answer(invocation.body)


def talk(scenario: Callable[[httpx.AsyncClient], Awaitable[T]], budget: MemoryBudget = BUDGET) -> T:
    async def go() -> T:
        transport = httpx.ASGITransport(app=create_multi_model_app(Echo, budget, ServingOptions()))
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return await scenario(client)

    return asyncio.run(go())


async def load(client: httpx.AsyncClient, name: str, url: str = "/opt/ml/models/x/model") -> httpx.Response:
    return await client.post("/models", json={"model_name": name, "url": url})


class Process:
    """Resident memory as a test says, some of which is freed and not yet returned to the system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, resident: int, unused: int) -> None:
        self.resident, self.unused = resident, unused
        self.threads: list[str] = []
        monkeypatch.setattr(multi_model, "resident_bytes", lambda: self.resident)
        monkeypatch.setattr(multi_model, "release_unused_memory", self.release)

    def release(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.resident -= self.unused
        self.unused = 0


def test_memory_that_is_freed_already_is_returned_before_a_load_is_a_507(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient) -> tuple[list[int], Process]:
        assert (await load(client, "first")).status_code == 200
        process = Process(monkeypatch, resident=960, unused=500)
        return [(await load(client, name)).status_code for name in ("second", "third")], process

    statuses, process = talk(scenario)
    assert statuses == [200, 200]
    assert len(process.threads) == 1, "the second load finds room at once"
    assert process.threads[0] != threading.main_thread().name, "it takes long, and would hold the event loop"


def test_memory_that_is_in_use_still_is_a_507(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient) -> int:
        assert (await load(client, "first")).status_code == 200
        Process(monkeypatch, resident=960, unused=0)
        return (await load(client, "second")).status_code

    assert talk(scenario) == 507


def test_a_budget_that_models_have_used_up_is_a_507_without_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient) -> tuple[int, Process]:
        assert (await load(client, "first")).status_code == 200
        process = Process(monkeypatch, resident=960, unused=500)
        return (await load(client, "second")).status_code, process

    status, process = talk(scenario, MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=600))
    assert (status, process.threads) == (507, [])


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_unused_memory_is_collected_and_returned_to_the_system() -> None:
    gc.disable()
    try:
        cycle = weakref.ref(Cycle())
        assert cycle() is not None
        release_unused_memory()
        assert cycle() is None
    finally:
        gc.enable()
    # Blocks too small for a mapping of their own, of which one in use keeps glibc from shrinking the heap.
    blocks = [bytes(100_000) for _ in range(1000)]
    last, before = blocks[-1], resident_bytes()
    blocks.clear()
    release_unused_memory()
    assert last[0] == 0
    assert resident_bytes() < before - 50 * 2**20


def test_a_libc_without_malloc_trim_only_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_name: object) -> object:
        return object()

    memory._malloc_trim_of_libc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    release_unused_memory()
    memory._malloc_trim_of_libc.cache_clear()


def test_an_unloaded_model_is_freed_on_a_thread_before_the_response() -> None:
    freed: list[str] = []

    class Large(Echo):
        def __del__(self) -> None:
            freed.append(threading.current_thread().name)

    async def scenario() -> None:
        app = create_multi_model_app(Large, BUDGET, ServingOptions())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://container") as client:
            await load(client, "large")
            # Requests come in turns of the event loop of their own; within one, it still holds what the load returned.
            await asyncio.sleep(0)
            assert (await client.delete("/models/large")).status_code == 200
            assert len(freed) == 1
            assert freed[0] != threading.main_thread().name

    asyncio.run(scenario())


@pytest.mark.parametrize("field", ["model_name", "url"])
def test_a_name_or_url_longer_than_any_is_a_400_that_names_both_lengths(field: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        fields = {"model_name": "a", "url": "/a"} | {field: "/" * 1_000_000}
        return await client.post("/models", json=fields)

    response = talk(scenario)
    assert response.status_code == 400
    assert response.json()["error"] == {
        "code": "invalid_field",
        "field": field,
        "message": f"{field} has 1000000 characters: it may have at most {MAX_TEXT}",
    }


def test_a_page_of_models_with_long_names_ends_within_what_a_response_may_have() -> None:
    names = [f"{number:03}" + "\x01" * (MAX_TEXT - 3) for number in range(150)]

    async def scenario(client: httpx.AsyncClient) -> list[str]:
        for name in names:
            assert (await load(client, name, "/" + "\x01" * (MAX_TEXT - 1))).status_code == 200
        listed: list[str] = []
        query: dict[str, str] = {}
        while True:
            response = await client.get("/models", params=query)
            assert len(response.content) < MAX_BODY_BYTES
            page = response.json()
            listed += [model["modelName"] for model in page["models"]]
            if "nextPageToken" not in page:
                return listed
            query = {"next_page_token": page["nextPageToken"]}

    assert talk(scenario, MemoryBudget(limit_bytes=2**50, base_bytes=0)) == names
