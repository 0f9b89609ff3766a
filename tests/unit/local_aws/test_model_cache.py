"""The platform's half of a multi-model endpoint: loads on demand, evicts on 507, never unloads what is in use."""

import asyncio
import random
import tarfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError, EndpointConnectionError

from local_aws.hosting import multi_model
from local_aws.hosting.artifacts import DiskFullError, ModelDataError, StoreUnavailableError
from local_aws.hosting.errors import ApiError
from local_aws.hosting.multi_model import ModelCache, ModelNotLoadableError
from model_build.owned_folders import MARKER


class Container:
    """A container with room for so many models, that notices every breach of the contract."""

    def __init__(self, room: int, refuses: tuple[str, ...] = ()) -> None:
        self.room, self.refuses = room, refuses
        self.loaded: dict[str, str] = {}
        self.busy: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.breaches: list[str] = []

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name, target = body["model_name"], request.headers["X-Amzn-SageMaker-Target-Model"]
        await asyncio.sleep(0)
        if target in self.refuses:
            return web.json_response({"message": "it is damaged"}, status=400)
        if name in self.loaded:
            return web.json_response({}, status=409)
        if len(self.loaded) >= self.room:
            return web.json_response({}, status=507)
        self.loaded[name] = (Path(body["url"]) / "version").read_text()
        self.loads[target] += 1
        return web.json_response({})

    async def unload(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self.busy[name]:
            self.breaches.append(f"{name} was unloaded while it answered")
        if self.loaded.pop(name, None) is None:
            self.breaches.append(f"{name} was unloaded without being there")
        return web.json_response({})

    async def invoke(self, name: str) -> str:
        if name not in self.loaded:
            self.breaches.append(f"{name} was asked without being there")
            return ""
        self.busy[name] += 1
        await asyncio.sleep(0)
        self.busy[name] -= 1
        return self.loaded[name]


class Metrics:
    def __init__(self) -> None:
        self.hits = self.misses = 0
        self.times: Counter[str] = Counter()

    def model_cache(self, *, hit: bool) -> None:
        self.hits += hit
        self.misses += not hit

    def model_time(self, metric: str, seconds: float) -> None:
        assert seconds >= 0
        self.times[metric] += 1


class Store:
    """The S3 side: versions of objects by key."""

    def __init__(self, room: int = 1000) -> None:
        self.versions: dict[str, str] = {}
        self.downloads: Counter[str] = Counter()
        self.room = room
        self.open = threading.Event()
        self.open.set()
        self.refusals = 0
        """Connections that it refuses, as a restarting one does."""

    def head_object(self, **names: str) -> dict[str, str]:
        if self.refusals:
            self.refusals -= 1
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
        if names["Key"] not in self.versions:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        return {"ETag": self.versions[names["Key"]]}

    def fetch(self, s3: Any, bucket: str, key: str, folder: Path, max_bytes: int) -> str:
        del s3, bucket, max_bytes
        self.downloads[key] += 1
        assert self.open.wait(20)
        if len(list(folder.parent.parent.glob("*/model"))) >= self.room:
            raise DiskFullError(f"the disk could not store {key}: No space left on device")
        if self.versions[key] == "away":
            raise StoreUnavailableError(f"could not download {key}: 500")
        if self.versions[key] == "broken":
            raise ModelDataError(f"{key} is not a readable model.tar.gz: {tarfile.TarError('bad')}")
        folder.mkdir(parents=True)
        (folder / "version").write_text(self.versions[key])
        return self.versions[key]


@asynccontextmanager
async def running(
    container: Container, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ModelCache]:
    monkeypatch.setattr(multi_model, "fetch", store.fetch)
    monkeypatch.setattr(boto3, "client", lambda _service, **_options: store)
    (folder / MARKER).touch()
    app = web.Application()
    app.add_routes([web.post("/models", container.load), web.delete("/models/{name}", container.unload)])
    async with TestServer(app) as server, aiohttp.ClientSession(str(server.make_url("/"))) as client:
        yield ModelCache(client, folder, folder, "s3://bucket/models/", 1 << 30)


async def ask(cache: ModelCache, container: Container, target: str, metrics: Metrics) -> str:
    async with cache.use(target, metrics) as name:
        return await container.invoke(name)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_awaited(test), 60))


async def _awaited(test: Callable[[], Awaitable[None]]) -> None:
    await test()


def test_concurrent_requests_for_more_models_than_fit_never_meet_an_unloaded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=3), Store(), Metrics()
    store.versions = {f"models/{i}": str(i) for i in range(10)}

    async def client(cache: ModelCache, seed: int) -> None:
        random_numbers = random.Random(seed)
        for _ in range(150):
            target = str(random_numbers.randrange(10))
            assert await ask(cache, container, target, metrics) == target

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            await asyncio.gather(*(client(cache, seed) for seed in range(8)))
            assert cache.loaded == len(container.loaded) <= 3

    run(test)
    assert container.breaches == []
    assert metrics.hits + metrics.misses == 8 * 150
    assert metrics.times["ModelLoadingTime"] == sum(container.loads.values()) <= metrics.misses
    assert metrics.times["ModelUnloadingTime"] == metrics.times["ModelLoadingTime"] - len(container.loaded)
    assert metrics.times["ModelLoadingWaitTime"] == metrics.misses


def test_requests_that_come_together_for_one_model_load_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=3), Store(), Metrics()
    store.versions = {"models/a": "1"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            assert await asyncio.gather(*(ask(cache, container, "a", metrics) for _ in range(20))) == ["1"] * 20

    run(test)
    assert container.loads == {"a": 1}
    assert store.downloads == {"models/a": 1}


def test_the_least_recently_used_model_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container, store, metrics = Container(room=2), Store(), Metrics()
    store.versions = {f"models/{name}": name for name in "abc"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for target in "abac":
                await ask(cache, container, target, metrics)
            assert [cache.has(target) for target in "abc"] == [True, False, True]

    run(test)


def test_a_replaced_object_is_downloaded_at_the_next_load_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=1), Store(), Metrics()
    store.versions = {"models/a": "1", "models/b": "1"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for target in "ab":
                await ask(cache, container, target, metrics)
            store.versions["models/a"] = "2"
            assert [await ask(cache, container, target, metrics) for target in "ab"] == ["2", "1"]

    run(test)
    assert store.downloads == {"models/a": 2, "models/b": 1}


def test_an_object_that_is_as_before_after_a_broken_one_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=1), Store(), Metrics()
    store.versions = {"models/a": "1", "models/b": "1"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for target in "ab":
                await ask(cache, container, target, metrics)
            store.versions["models/a"] = "broken"
            with pytest.raises(ApiError, match="not a readable"):
                await ask(cache, container, "a", metrics)
            store.versions["models/a"] = "1"
            assert await ask(cache, container, "a", metrics) == "1"

    run(test)


def test_a_model_that_cannot_be_loaded_is_said_and_the_next_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=1, refuses=("bad",)), Store(), Metrics()
    store.versions = {"models/a": "1", "models/bad": "1", "models/broken": "broken"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            with pytest.raises(ModelNotLoadableError, match="it is damaged"):
                await ask(cache, container, "bad", metrics)
            with pytest.raises(ApiError, match=r"not a readable model\.tar\.gz"):
                await ask(cache, container, "broken", metrics)
            with pytest.raises(ApiError, match="Failed to download model data"):
                await ask(cache, container, "missing", metrics)
            assert await ask(cache, container, "a", metrics) == "1"

    run(test)


def test_a_model_larger_than_the_container_is_an_error_and_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=0), Store(), Metrics()
    store.versions = {"models/a": "1"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            with pytest.raises(ModelNotLoadableError) as raised:
                await ask(cache, container, "a", metrics)
            assert raised.value.status == 507

    run(test)


def test_a_model_that_the_container_lost_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container, store, metrics = Container(room=2), Store(), Metrics()
    store.versions = {"models/a": "1"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            await ask(cache, container, "a", metrics)
            container.loaded.clear()
            cache.forget("a")
            assert await ask(cache, container, "a", metrics) == "1"

    run(test)
    assert container.loads == {"a": 2}


def test_a_disk_that_is_full_gives_up_models_that_nobody_uses_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=2), Store(room=3), Metrics()
    store.versions = {f"models/{name}": name for name in "abcd"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for target in "abcdd":
                assert await ask(cache, container, target, metrics) == target

    run(test)
    assert sorted(container.loaded.values()) == ["c", "d"]
    assert metrics.times["ModelUnloadingTime"] == 2, "for memory alone: what was unloaded went from the disk"


def test_a_full_disk_of_loaded_models_costs_the_least_recently_used_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=9), Store(room=2), Metrics()
    store.versions = {f"models/{name}": name for name in "abc"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for target in "abac":
                assert await ask(cache, container, target, metrics) == target

    run(test)
    assert sorted(container.loaded.values()) == ["a", "c"]


def test_a_disk_that_something_else_has_filled_refuses_the_model_and_costs_a_few_at_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=20), Store(), Metrics()
    store.versions = {f"models/{index}": str(index) for index in range(11)}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            for index in range(10):
                await ask(cache, container, str(index), metrics)
            store.room = 0
            with pytest.raises(ApiError, match="the disk could not store") as raised:
                await ask(cache, container, "10", metrics)
            assert (raised.value.code, raised.value.status) == ("ServiceUnavailable", 503)

    run(test)
    assert sorted(container.loaded.values()) == ["8", "9"]


def test_an_s3_that_fails_is_no_mistake_of_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container, store, metrics = Container(room=2), Store(), Metrics()
    store.versions = {"models/a": "away"}

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            with pytest.raises(ApiError) as raised:
                await ask(cache, container, "a", metrics)
            assert (raised.value.code, raised.value.status) == ("ServiceUnavailable", 503)
            store.versions["models/a"] = "1"
            assert await ask(cache, container, "a", metrics) == "1"

    run(test)


def test_an_s3_that_restarts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_aws.hosting.artifacts._RETRY_SECONDS", 0.01)
    container, store, metrics = Container(room=1), Store(), Metrics()
    store.versions, store.refusals = {"models/a": "1"}, 3

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            assert await ask(cache, container, "a", metrics) == "1"
            assert store.refusals == 0

    run(test)


def test_a_request_waits_for_its_model_so_long_and_the_load_goes_on_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=2), Store(), Metrics()
    store.versions = {"models/a": "1"}
    monkeypatch.setattr(multi_model, "READY_SECONDS", 0.01)

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            store.open.clear()
            for _ in range(2):
                with pytest.raises(ApiError, match="still being downloaded or loaded") as raised:
                    await ask(cache, container, "a", metrics)
                assert (raised.value.code, raised.value.status) == ("ModelNotReadyException", 429)
            store.open.set()
            while not cache.has("a"):
                await asyncio.sleep(0.01)
            assert await ask(cache, container, "a", metrics) == "1"

    run(test)
    assert store.downloads == {"models/a": 1}


def test_models_that_are_asked_for_together_and_do_not_fit_on_the_disk_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, store, metrics = Container(room=20), Store(room=2), Metrics()
    store.versions = {f"models/{index}": str(index) for index in range(6)}

    async def client(cache: ModelCache, seed: int) -> None:
        random_numbers = random.Random(seed)
        for _ in range(20):
            target = str(random_numbers.randrange(6))
            assert await ask(cache, container, target, metrics) == target

    async def test() -> None:
        async with running(container, store, tmp_path, monkeypatch) as cache:
            await asyncio.gather(*(client(cache, seed) for seed in range(6)))

    run(test)
    assert container.breaches == []
