"""A container on a developer's machine answers its programs, and no page in a browser there."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from containers.neuron_encoder.reverse_proxy import ReverseProxy
from containers.serving.loopback import LoopbackOnly, refusal


async def answered(_request: Request) -> Response:
    return Response("answered")


def get(headers: dict[str, str]) -> httpx.Response:
    async def sent() -> httpx.Response:
        app = LoopbackOnly(Starlette(routes=[Route("/ping", answered)]))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8080"
        ) as client:
            return await client.get("/ping", headers=headers)

    return asyncio.run(sent())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost", "localhost:1", "[::1]:8080"])
def test_a_program_is_answered_under_any_name_of_this_machine(host: str) -> None:
    assert get({"Host": host}).text == "answered"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Host": "evil.example.com"},
        {"Host": "evil.example.com:8080"},
        {"Host": "127.0.0.1.evil.example.com:8080"},
        {"Host": "127.0.0.1:8080:x"},
    ],
)
def test_a_page_is_refused_whatever_name_resolves_here(headers: dict[str, str]) -> None:
    response = get(headers)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("name", [b"Origin", b"origin", b"ORIGIN"])
def test_the_front_of_neuron_encoder_does_the_same(name: bytes) -> None:
    async def metrics() -> bytes:
        return b""

    proxy = ReverseProxy([], {}, metrics)
    headers = [(b"Host", b"127.0.0.1:8080")]
    for loopback, expected in ((False, b"200"), (True, b"403")):
        proxy.loopback = loopback
        response = asyncio.run(proxy.respond(b"GET", b"/metrics", [*headers, (name, b"https://example.com")], b""))
        assert response.split()[1] == expected
    assert asyncio.run(proxy.respond(b"GET", b"/metrics", headers, b"")).split()[1] == b"200"


def test_where_sagemaker_connects_nothing_is_refused() -> None:
    assert refusal([(b"content-type", b"application/json")]) is None
