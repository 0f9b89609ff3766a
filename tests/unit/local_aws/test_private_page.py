"""The dashboard page is for whoever has its address, and for no other user and no other web page."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from local_aws.dashboard.private_page import PrivatePage

ADDRESS = "127.0.0.1:8000"


async def shown(request: Request) -> Response:
    return JSONResponse({"path": request.url.path})


@pytest.fixture
def page() -> PrivatePage:
    return PrivatePage(Starlette(routes=[Route("/", shown), Route("/dashboards/{name}", shown)]), ADDRESS)


def get(page: PrivatePage, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def sent() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=page), base_url=f"http://{ADDRESS}") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(sent())


def test_the_printed_address_shows_the_page_and_what_it_asks_for(page: PrivatePage) -> None:
    assert get(page, page.url).json() == {"path": "/"}
    assert get(page, f"{page.url}dashboards/a b").status_code == 200


@pytest.mark.parametrize("path", ["/", "/dashboards/x", "/guess/", "//", "/guess/dashboards/x"])
def test_without_the_token_there_is_nothing(page: PrivatePage, path: str) -> None:
    response = get(page, path)
    assert response.status_code == 403
    assert "dashboards" not in response.text


def test_every_page_has_another_token(page: PrivatePage) -> None:
    assert PrivatePage(Starlette(), ADDRESS).url != page.url


@pytest.mark.parametrize("host", ["evil.example.com:8000", "localhost:8000", "127.0.0.1:80"])
def test_a_name_that_was_made_to_resolve_here_is_refused_even_with_the_token(page: PrivatePage, host: str) -> None:
    response = get(page, page.url, headers={"Host": host})
    assert response.status_code == 403


def test_another_pages_request_is_refused_even_with_the_token(page: PrivatePage) -> None:
    assert get(page, page.url, headers={"Origin": "https://example.com"}).status_code == 403
    assert get(page, page.url, headers={"Origin": f"http://{ADDRESS}"}).status_code == 200


def test_a_page_is_framed_by_none_and_names_itself_to_none(page: PrivatePage) -> None:
    headers = get(page, page.url).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_web_socket_is_closed(page: PrivatePage) -> None:
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    asyncio.run(page({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == ["websocket.close"]
