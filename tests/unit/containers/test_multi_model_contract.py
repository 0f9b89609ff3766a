"""SageMaker's multi-model contract: what each call answers, through the ASGI application and stand-in models."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.types import ASGIApp

from containers.serving.app import Answer, Invocation
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.multi_model import ModelLoadError
from tests.unit.containers.multi_model_client import Echo, ask, container, echo, error, load, names, talk, unload


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
        "message": f"model_name is {name!r}: it must not be empty or contain a slash",
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
            "message": "model 'ohio' is already loaded",
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
        f"{method} {url}: this container serves GET /ping, POST and GET /models, GET and DELETE "
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
        error(response)["message"]
        == f"the body is over {MAX_BODY_BYTES} bytes, SageMaker's limit; send a smaller request"
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


def test_ping_answers_with_and_without_models() -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        empty = (await client.get("/ping")).status_code
        await load(client, "ohio")
        return [empty, (await client.get("/ping")).status_code]

    assert talk(container(), scenario) == [200, 200]
