"""SageMaker's multi-model contract: what each call answers, through the ASGI application and stand-in models."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from containers.serving import multi_model
from containers.serving.app import Answer, Invocation, ServingOptions
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.multi_model import LoadedModel, MemoryBudget, ModelLoadError, create_multi_model_app

T = TypeVar("T")
ROOMY = MemoryBudget(limit_bytes=2**50, base_bytes=0)
WAIT_SECONDS = 20
"""How long a test waits for what must happen; nothing waits so long unless it is broken."""


@dataclass
class Echo:
    """A model that answers its archive's name and the body."""

    name: str
    size_bytes: int = 0

    def invoke(self, invocation: Invocation) -> Answer:
        return Answer(f"{self.name}: ".encode() + invocation.body)


def echo(folder: Path) -> Echo:
    return Echo(folder.parent.name)


@dataclass
class Gate:
    """A point where threads stop until the test lets them go on."""

    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self.arrived.release()
        assert self.opened.wait(WAIT_SECONDS)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.arrived.acquire, timeout=WAIT_SECONDS)


def container(load: Callable[[Path], LoadedModel] = echo, budget: MemoryBudget = ROOMY, **options: Any) -> ASGIApp:
    return create_multi_model_app(load, budget, ServingOptions(**options))


def talk(app: ASGIApp, scenario: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    async def go() -> T:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://container", timeout=None) as client:
            return await scenario(client)

    return asyncio.run(go())


async def load(client: httpx.AsyncClient, name: str, url: str | None = None) -> httpx.Response:
    return await client.post("/models", json={"model_name": name, "url": url or f"/opt/ml/models/{name}/model"})


async def ask(client: httpx.AsyncClient, name: str, body: bytes = b"?") -> httpx.Response:
    return await client.post(f"/models/{quote(name, safe='')}/invoke", content=body)


async def unload(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.delete(f"/models/{quote(name, safe='')}")


async def names(client: httpx.AsyncClient, **query: str | int) -> list[str]:
    return [model["modelName"] for model in (await client.get("/models", params=query)).json()["models"]]


def error(response: httpx.Response) -> dict[str, str]:
    assert response.headers["content-type"] == "application/json"
    told: dict[str, str] = response.json()["error"]
    return told


def test_a_model_is_loaded_asked_described_and_unloaded() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        loaded = await load(client, "ohio")
        assert (loaded.status_code, loaded.json()) == (200, {"status": "loaded"})
        answer = await ask(client, "ohio", b"churn?")
        assert (answer.status_code, answer.content) == (200, b"ohio: churn?")
        described = await client.get("/models/ohio")
        assert described.json() == {"modelName": "ohio", "modelUrl": "/opt/ml/models/ohio/model"}
        unloaded = await unload(client, "ohio")
        assert (unloaded.status_code, unloaded.json()) == (200, {"status": "unloaded"})
        assert await names(client) == []

    talk(container(), scenario)


@pytest.mark.parametrize("name", ["a b", "ü", "%2e", "?x=1#y", "50%", "\U0001f600", "new\nline", "x" * 5000])
def test_a_name_is_opaque_whatever_its_characters(name: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await load(client, name, "/opt/ml/models/x/model")).status_code == 200
        assert (await ask(client, name)).content == b"x: ?"
        assert await names(client) == [name]
        assert (await client.get(f"/models/{quote(name, safe='')}")).json()["modelName"] == name
        assert (await unload(client, name)).status_code == 200

    talk(container(), scenario)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "model_name"),
        (b"hello", "model_name"),
        (b"\xff\xfe", "model_name"),
        (b"[]", "expected `object`, got `array`"),
        (b"null", "expected `object`, got `null`"),
        (b'{"url": "/m"}', "missing required field `model_name`"),
        (b'{"model_name": "ohio"}', "missing required field `url`"),
        (b'{"model_name": 7, "url": "/m"}', "expected `str`, got `int` - at `$.model_name`"),
        (b'{"model_name": "ohio", "url": null}', "expected `str`, got `null` - at `$.url`"),
        (b'{"model_name": "\\ud800", "url": "/m"}', "surrogate"),
        (b'{"model_name": "ohio", "url": "/m", "more": ' + b"[" * 100_000, "model_name"),
    ],
)
def test_a_load_request_that_is_not_the_contracts_json_is_a_400_that_shows_the_form(body: bytes, says: str) -> None:
    response = talk(container(), lambda client: client.post("/models", content=body))
    assert response.status_code == 400
    assert error(response)["code"] == "invalid_request"
    assert '{"model_name": "...", "url": "..."}' in error(response)["message"]
    assert says.lower() in error(response)["message"].lower()


@pytest.mark.parametrize("name", ["", "a/b", "/"])
def test_a_name_that_no_path_can_hold_is_a_400(name: str) -> None:
    response = talk(container(), lambda client: load(client, name, "/m"))
    assert response.status_code == 400
    assert error(response) == {
        "code": "invalid_field",
        "field": "model_name",
        "message": f"model_name is {name!r}: it needs a character, and no slash",
    }


@pytest.mark.parametrize("url", ["", "model", "http://[::1", "/a\0b", "?", "s3://bucket"])
def test_a_url_that_is_no_path_is_a_400_before_anything_is_read(url: str) -> None:
    def never(folder: Path) -> Echo:
        raise AssertionError(folder)

    response = talk(container(never), lambda client: client.post("/models", json={"model_name": "ohio", "url": url}))
    assert response.status_code == 400
    assert (error(response)["code"], error(response)["field"]) == ("invalid_field", "url")
    assert repr(url) in error(response)["message"]
    assert "/opt/ml/models/" in error(response)["message"]


def test_a_file_url_means_its_path() -> None:
    async def scenario(client: httpx.AsyncClient) -> bytes:
        await load(client, "ohio", "file:///opt/ml/models/other/model")
        return (await ask(client, "ohio")).content

    assert talk(container(), scenario) == b"other: ?"


def test_a_model_that_is_loaded_already_is_a_409_and_stays_as_it_is() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        again = await load(client, "ohio", "/opt/ml/models/other/model")
        assert again.status_code == 409
        assert error(again) == {
            "code": "model_already_loaded",
            "field": "model_name",
            "message": "model 'ohio' is loaded already",
        }
        assert (await ask(client, "ohio")).content == b"ohio: ?"

    talk(container(), scenario)


def test_files_that_cannot_be_loaded_are_a_400_and_the_name_stays_free() -> None:
    tries = iter([ModelLoadError("the archive holds nothing"), None])

    def fails_once(folder: Path) -> Echo:
        if failure := next(tries):
            raise failure
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        refused = await load(client, "ohio")
        assert refused.status_code == 400
        assert error(refused) == {
            "code": "model_not_loadable",
            "field": "url",
            "message": "the archive holds nothing",
        }
        assert await names(client) == []
        assert (await load(client, "ohio")).status_code == 200

    talk(container(fails_once), scenario)


def test_a_loader_that_breaks_is_a_json_500_without_a_traceback_and_the_others_keep_serving() -> None:
    def breaks(folder: Path) -> Echo:
        if folder.parent.name == "bad":
            raise RuntimeError("secret detail")
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "good")
        broken = await load(client, "bad")
        assert broken.status_code == 500
        assert error(broken)["code"] == "internal_error"
        assert "secret" not in broken.text
        assert (await ask(client, "good")).status_code == 200
        assert await names(client) == ["good"]

    talk(container(breaks), scenario)


def test_a_loader_that_finds_no_memory_is_a_507_so_that_sagemaker_unloads_and_asks_again() -> None:
    def exhausts(folder: Path) -> Echo:
        if folder.parent.name == "large":
            raise MemoryError
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "good")
        refused = await load(client, "large")
        assert refused.status_code == 507
        assert error(refused)["code"] == "insufficient_memory"
        assert error(refused)["message"].endswith("least recently used: good")
        assert (await ask(client, "good")).status_code == 200

    talk(container(exhausts), scenario)


TWO_FIT = MemoryBudget(limit_bytes=2**50, base_bytes=0, reservation_bytes=2**48 + 2**47)
"""Room for two models and not for three, whatever this process itself uses."""


def test_a_model_that_does_not_fit_is_a_507_that_names_counts_and_whom_to_unload() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert [(await load(client, name)).status_code for name in ("ohio", "utah")] == [200, 200]
        await ask(client, "ohio")
        refused = await load(client, "iowa")
        assert refused.status_code == 507
        assert error(refused)["code"] == "insufficient_memory"
        free = TWO_FIT.model_bytes - 2 * TWO_FIT.reservation_bytes
        assert error(refused)["message"] == (
            f"the model counts {TWO_FIT.reservation_bytes} bytes, {free} of {2**50} are free; least recently used: utah"
        )
        assert await names(client) == ["ohio", "utah"]

    talk(container(budget=TWO_FIT), scenario)


def test_a_model_that_did_not_fit_fits_after_another_is_unloaded() -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        calls = [load(client, "ohio"), load(client, "utah"), load(client, "iowa"), unload(client, "ohio")]
        statuses = [(await call).status_code for call in calls]
        return [*statuses, (await load(client, "iowa")).status_code, (await ask(client, "iowa")).status_code]

    assert talk(container(budget=TWO_FIT), scenario) == [200, 200, 507, 200, 200, 200]


def test_memory_that_a_refused_or_broken_load_held_is_free_again() -> None:
    def breaks(folder: Path) -> Echo:
        match folder.parent.name:
            case "broken":
                raise RuntimeError
            case "damaged":
                raise ModelLoadError("damaged")
            case "larger than its file":
                return Echo("", size_bytes=2**50)
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        for name, status in (("broken", 500), ("damaged", 400), ("larger than its file", 507)):
            assert [(await load(client, name)).status_code for _ in range(5)] == [status] * 5
        assert [(await load(client, name)).status_code for name in ("ohio", "utah", "iowa")] == [200, 200, 507]

    talk(container(breaks, TWO_FIT), scenario)


def test_a_first_model_that_never_fits_is_told_to_take_a_larger_instance() -> None:
    response = talk(container(budget=MemoryBudget(limit_bytes=100, base_bytes=95)), lambda client: load(client, "ohio"))
    assert response.status_code == 507
    assert error(response)["message"].endswith("no model is loaded, use a larger instance")


def test_an_archive_larger_than_the_memory_is_refused_by_its_size_on_disk_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"x" * 1001)

    def never(folder: Path) -> Echo:
        raise AssertionError(folder)

    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, headroom=0)
    response = talk(container(never, budget), lambda client: load(client, "ohio", str(tmp_path)))
    assert response.status_code == 507
    assert "counts 1001 bytes" in error(response)["message"]


def test_memory_that_requests_have_taken_is_not_given_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = 0
    monkeypatch.setattr(multi_model, "resident_bytes", lambda: resident)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        nonlocal resident
        statuses = [(await load(client, "ohio")).status_code]
        resident = 960
        statuses.append((await load(client, "utah")).status_code)
        resident = 0
        return [*statuses, (await load(client, "utah")).status_code]

    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=10)
    assert talk(container(budget=budget), scenario) == [200, 507, 200]


def test_the_first_model_is_loaded_however_much_the_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_model, "resident_bytes", lambda: 2**60)
    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=10)
    assert talk(container(budget=budget), lambda client: load(client, "ohio")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_describing_or_unloading_a_model_that_is_not_there_is_a_404(method: str) -> None:
    response = talk(container(), lambda client: client.request(method, "/models/ohio"))
    assert response.status_code == 404
    assert error(response) == {
        "code": "model_not_loaded",
        "field": "model_name",
        "message": "model 'ohio' is not loaded; load it with POST /models",
    }


def test_asking_a_model_that_is_not_there_or_was_unloaded_is_a_404() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        never = await ask(client, "ohio", b"x" * 100_000)
        await load(client, "ohio")
        await unload(client, "ohio")
        gone = await ask(client, "ohio")
        for response in (never, gone):
            assert response.status_code == 404
            assert error(response)["message"] == "model 'ohio' is not loaded; load it with POST /models"

    talk(container(), scenario)


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/invocations", 404),
        ("GET", "/models/a/b/invoke", 404),
        ("POST", "/ping", 405),
        ("PUT", "/models", 405),
        ("DELETE", "/models", 405),
        ("POST", "/models/ohio", 405),
        ("GET", "/models/ohio/invoke", 405),
    ],
)
def test_other_paths_and_methods_are_json_errors_that_list_the_contract(method: str, url: str, status: int) -> None:
    response = talk(container(), lambda client: client.request(method, url))
    assert response.status_code == status
    assert error(response)["message"] == (
        f"{method} {url}: this container answers GET /ping, POST and GET /models, GET and DELETE "
        "/models/{model_name}, and POST /models/{model_name}/invoke"
    )


@pytest.mark.parametrize("url", ["/models", "/models/ohio/invoke", "/models/absent/invoke"])
def test_a_body_over_six_mebibytes_is_a_413(url: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        await load(client, "ohio")
        return await client.post(url, content=b"x" * (MAX_BODY_BYTES + 1))

    response = talk(container(), scenario)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert (
        error(response)["message"] == f"the body is over {MAX_BODY_BYTES} bytes, SageMaker's limit; send less at once"
    )


def test_a_body_of_six_mebibytes_is_answered() -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        await load(client, "ohio")
        return await ask(client, "ohio", b"x" * MAX_BODY_BYTES)

    assert len(talk(container(), scenario).content) == MAX_BODY_BYTES + len("ohio: ")


def test_a_media_type_that_the_models_do_not_read_is_a_415_that_lists_those_they_do() -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        await load(client, "ohio")
        return await client.post("/models/ohio/invoke", content=b"?", headers={"content-type": "image/png"})

    response = talk(container(content_types=("text/csv", "application/json")), scenario)
    assert response.status_code == 415
    assert error(response)["message"] == "Content-Type is 'image/png'; send one of: text/csv, application/json"


async def half_a_request(app: ASGIApp, path: str, then: str) -> int:
    """The status of a POST whose client sends part of its body, and then waits for ever or hangs up."""
    statuses: list[int] = []
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b'{"model_name', "more_body": True}]
    if then == "hangs up":
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def collect(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "http_version": "1.1", "scheme": "http", "server": ("container", 80), "client": None,
    }  # fmt: skip
    await app(scope, receive, collect)
    return statuses[0]


@pytest.mark.parametrize("path", ["/models", "/models/ohio/invoke", "/models/absent/invoke"])
@pytest.mark.parametrize(("then", "status"), [("waits", 408), ("hangs up", 499)])
def test_half_a_body_is_an_error_and_the_next_request_is_served(path: str, then: str, status: int) -> None:
    app = container(body_timeout_seconds=0.01)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        assert await half_a_request(app, path, then) == status
        assert (await ask(client, "ohio")).status_code == 200

    talk(app, scenario)


def test_a_slow_client_is_told_how_long_it_had() -> None:
    app = container(body_timeout_seconds=0.01)

    async def stalls() -> Any:
        yield b"x"
        await asyncio.Event().wait()

    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        await load(client, "ohio")
        return await client.post("/models/ohio/invoke", content=stalls())

    response = talk(app, scenario)
    assert response.status_code == 408
    assert error(response)["message"].startswith("the body did not arrive within 0.01 s; send it faster")


def test_a_full_queue_is_a_503_with_retry_after_and_loses_nothing() -> None:
    gate = Gate()

    class Slow(Echo):
        def invoke(self, invocation: Invocation) -> Answer:
            gate.stop()
            return super().invoke(invocation)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        waiting = [asyncio.create_task(ask(client, "ohio", body)) for body in (b"1", b"2")]
        await gate.reached()
        refused = await ask(client, "ohio")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert error(refused)["message"] == "2 requests are waiting; try again later"
        assert (await client.get("/ping")).status_code == 200
        gate.opened.set()
        assert [answer.content for answer in await asyncio.gather(*waiting)] == [b"ohio: 1", b"ohio: 2"]
        assert (await ask(client, "ohio")).status_code == 200

    talk(container(lambda folder: Slow("ohio"), queue_capacity=2), scenario)


def test_a_failure_in_a_model_is_a_500_without_a_traceback_and_all_keep_serving() -> None:
    class FailsOnX(Echo):
        def invoke(self, invocation: Invocation) -> Answer:
            if invocation.body == b"x":
                raise RuntimeError("secret detail")
            return super().invoke(invocation)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        await load(client, "utah")
        failed = await ask(client, "ohio", b"x")
        assert failed.status_code == 500
        assert "secret" not in failed.text
        assert [(await ask(client, name)).status_code for name in ("ohio", "utah")] == [200, 200]

    talk(container(lambda folder: FailsOnX(folder.parent.name)), scenario)


def test_one_model_loaded_twice_at_once_is_read_once_and_gives_one_200_and_one_409() -> None:
    gate, reads = Gate(), []

    def slow(folder: Path) -> Echo:
        reads.append(folder)
        gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, "ohio")) for _ in range(2)]
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(slow), scenario)) == [200, 409]
    assert len(reads) == 1


def test_a_second_load_of_a_model_whose_first_failed_tries_for_itself() -> None:
    gate = Gate()
    tries = iter([ModelLoadError("half an archive"), None])

    def fails_once(folder: Path) -> Echo:
        failure = next(tries)
        gate.stop()
        if failure:
            raise failure
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, "ohio")) for _ in range(2)]
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(fails_once), scenario)) == [200, 400]


def test_loading_delays_neither_ping_nor_the_list_nor_models_that_are_there() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        if folder.parent.name != "ohio":
            gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        coming = [asyncio.create_task(load(client, name)) for name in ("utah", "iowa", "maine", "texas")]
        await gate.reached()
        await gate.reached()
        assert (await client.get("/ping")).status_code == 200
        assert [(await ask(client, "ohio", b"?" * size)).status_code for size in (0, 1, 100_000)] == [200] * 3
        assert await names(client) == ["ohio"]
        assert (await client.get("/models/utah")).status_code == 404
        assert (await ask(client, "utah")).status_code == 404
        assert (await unload(client, "utah")).status_code == 404
        gate.opened.set()
        assert [answer.status_code for answer in await asyncio.gather(*coming)] == [200] * 4
        assert await names(client) == ["iowa", "maine", "ohio", "texas", "utah"]

    talk(container(slow), scenario)


def test_a_slow_disk_under_a_new_archive_delays_no_model_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()

    def slow_disk(folder: Path) -> int:
        if folder.parent.name != "ohio":
            gate.stop()
        return 0

    monkeypatch.setattr(multi_model, "_size_on_disk", slow_disk)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        coming = asyncio.create_task(load(client, "utah"))
        await gate.reached()
        assert (await ask(client, "ohio")).status_code == 200
        gate.opened.set()
        assert (await coming).status_code == 200

    talk(container(), scenario)


def test_a_model_unloaded_while_it_answers_finishes_its_answer() -> None:
    gate = Gate()

    class Slow(Echo):
        def invoke(self, invocation: Invocation) -> Answer:
            gate.stop()
            return super().invoke(invocation)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        answer = asyncio.create_task(ask(client, "ohio", b"churn?"))
        await gate.reached()
        assert (await unload(client, "ohio")).status_code == 200
        assert (await ask(client, "ohio")).status_code == 404
        gate.opened.set()
        assert ((await answer).status_code, (await answer).content) == (200, b"ohio: churn?")

    talk(container(lambda folder: Slow("ohio")), scenario)


def test_of_two_loads_at_once_that_do_not_fit_together_one_is_a_507() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(load(client, "ohio"))
        await gate.reached()
        second = await load(client, "utah")
        assert second.status_code == 507
        gate.opened.set()
        assert (await first).status_code == 200
        assert await names(client) == ["ohio"]

    one_fits = MemoryBudget(limit_bytes=2**50, base_bytes=0, reservation_bytes=2**49)
    talk(container(slow, one_fits), scenario)


def test_of_two_loads_that_turn_out_larger_than_their_files_one_is_a_507() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        gate.stop()
        return Echo(folder.parent.name, size_bytes=2**49)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, name)) for name in ("ohio", "utah")]
        await gate.reached()
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(slow), scenario)) == [200, 507]


def test_the_list_is_in_order_of_names_and_says_where_each_came_from() -> None:
    async def scenario(client: httpx.AsyncClient) -> Any:
        for name in ("utah", "Iowa", "ohio"):
            await load(client, name)
        await ask(client, "utah")
        return (await client.get("/models")).json()

    assert talk(container(), scenario) == {
        "models": [{"modelName": name, "modelUrl": f"/opt/ml/models/{name}/model"} for name in ("Iowa", "ohio", "utah")]
    }


@pytest.mark.parametrize(
    ("count", "limit", "pages"),
    [(0, 2, [0]), (1, 2, [1]), (2, 2, [2]), (3, 2, [2, 1]), (4, 2, [2, 2]), (3, 1, [1, 1, 1]), (3, 1000, [3])],
)
def test_a_page_has_a_token_only_when_more_follow(count: int, limit: int, pages: list[int]) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        for number in range(count):
            await load(client, f"model {number}")
        lengths, query = [], {"limit": str(limit)}
        while True:
            page = (await client.get("/models", params=query)).json()
            lengths.append(len(page["models"]))
            if "nextPageToken" not in page:
                return lengths
            query["next_page_token"] = page["nextPageToken"]

    assert talk(container(), scenario) == pages


def test_a_page_without_a_limit_holds_a_thousand() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for number in range(1001):
            await load(client, f"{number:04}")
        page = (await client.get("/models")).json()
        assert len(page["models"]) == 1000
        assert await names(client, next_page_token=page["nextPageToken"]) == ["1000"]

    talk(container(), scenario)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sets(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1), max_size=12),
    st.integers(1, 14),
)
def test_the_pages_of_any_limit_together_are_the_list(loaded: set[str], limit: int) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[str]:
        for name in loaded:
            assert (await load(client, name, "/m")).status_code == 200
        listed: list[str] = []
        query: dict[str, str] = {"limit": str(limit)}
        while True:
            page = (await client.get("/models", params=query)).json()
            listed += [model["modelName"] for model in page["models"]]
            if "nextPageToken" not in page:
                return listed
            query["next_page_token"] = page["nextPageToken"]

    assert talk(container(), scenario) == sorted(loaded)


def test_models_that_come_and_go_between_pages_neither_repeat_nor_hide_others() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for name in ("b", "d", "f", "h"):
            await load(client, name)
        first = (await client.get("/models", params={"limit": 2})).json()
        assert [model["modelName"] for model in first["models"]] == ["b", "d"]
        for name in ("a", "e"):
            await load(client, name)
        for name in ("d", "f"):
            await unload(client, name)
        assert await names(client, next_page_token=first["nextPageToken"]) == ["e", "h"]
        assert await names(client) == ["a", "b", "e", "h"]

    talk(container(), scenario)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "", "1.5", "1e2", "9" * 5000])
def test_a_limit_out_of_range_is_a_400(limit: str) -> None:
    response = talk(container(), lambda client: client.get("/models", params={"limit": limit}))
    assert response.status_code == 400
    assert (error(response)["code"], error(response)["field"]) == ("invalid_field", "limit")
    assert error(response)["message"].endswith("it must be 1 to 1000")


@pytest.mark.parametrize("token", ["!", "!!!!", "b2hpbw", "b2hpbw==b2hpbw==", "_w==", "ohio", "b2 hpbw==", "ü"])
def test_a_token_that_no_list_gave_is_a_400_and_never_the_first_page_again(token: str) -> None:
    response = talk(container(), lambda client: client.get("/models", params={"next_page_token": token}))
    assert response.status_code == 400
    assert error(response) == {
        "code": "invalid_field",
        "field": "next_page_token",
        "message": f"next_page_token is {token!r}: send one that this list gave, or none",
    }


def test_ping_answers_with_and_without_models() -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        empty = (await client.get("/ping")).status_code
        await load(client, "ohio")
        return [empty, (await client.get("/ping")).status_code]

    assert talk(container(), scenario) == [200, 200]
