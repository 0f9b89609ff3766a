"""A multi-model container with fake models, and a client of each call in SageMaker's contract."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from containers.serving.app import Answer, Invocation, ServingOptions
from containers.serving.multi_model import LoadedModel, MemoryBudget, create_multi_model_app

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
