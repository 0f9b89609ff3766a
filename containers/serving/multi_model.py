"""SageMaker's multi-model contract: models are loaded, invoked and unloaded by name over HTTP.

Source: "Build Your Own Container for SageMaker AI Multi-Model Endpoints" in the Amazon SageMaker AI
developer guide.
"""

import asyncio
import base64
import bisect
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from containers.serving.app import (
    JSON,
    Answer,
    Invocation,
    Invoker,
    ServingOptions,
    error_response,
    http_error,
    ping,
    redirect_nothing,
)
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.serving.memory import release_unused_memory, resident_bytes

logger = logging.getLogger("multi_model")

MAX_PAGE = 1000
"""Most models in one page of the list."""
_PAGE_BYTES = MAX_BODY_BYTES // 2
"""Most bytes of JSON for the models in one page; long names could otherwise exceed the response limit."""
MAX_TEXT = 8192
"""Most characters of a model's name and of its url: SageMaker's names have up to 1024, Linux paths up to 4096."""
MAX_ENTRIES = 10_000
"""Most files and folders read in an extracted archive."""
_ANSWERS = "GET /ping, POST and GET /models, GET and DELETE /models/{model_name}, and POST /models/{model_name}/invoke"


class LoadedModel(Protocol):
    """A model in memory; `invoke` may be called from several threads."""

    size_bytes: int

    def invoke(self, invocation: Invocation) -> Answer:
        """Respond to one request; raises ServingError for a client's mistake."""


class ModelLoadError(Exception):
    """A model whose files cannot be loaded; the message describes the problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Memory that models may take.

    limit_bytes: memory limit of the container.
    base_bytes: memory that the container uses without any model.
    reservation_bytes: smallest cost counted for a model.
    headroom: fraction of the limit kept free for requests.
    loading_factor: peak memory of loading, as a multiple of the size of the model's files.
    """

    limit_bytes: int
    base_bytes: int
    reservation_bytes: int = 0
    headroom: float = 0.1
    loading_factor: float = 1.0

    @property
    def model_bytes(self) -> int:
        """Return the bytes that all models together may count."""
        return int(self.limit_bytes * (1 - self.headroom)) - self.base_bytes

    def cost(self, size_bytes: int) -> int:
        """Return the bytes counted for a model of the given size."""
        return max(size_bytes, self.reservation_bytes)


@dataclass(frozen=True, slots=True)
class _Entry:
    url: str
    model: LoadedModel
    cost: int


class ModelStore:
    """The loaded models, least recently used first, within a memory budget.

    The platform chooses which model to unload: on a 507, SageMaker unloads one and retries. If a container unloaded
    models by itself, SageMaker would invoke models that are no longer loaded.
    """

    def __init__(self, load: Callable[[Path], LoadedModel], budget: MemoryBudget) -> None:
        self._load, self._budget = load, budget
        self._models: OrderedDict[str, _Entry] = OrderedDict()
        self._names: list[str] = []
        self._used = 0
        self._coming: dict[str, asyncio.Event] = {}
        # Loading has its own threads, so it does not delay requests to loaded models.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="load")

    async def add(self, name: str, url: str) -> None:
        """Load a model from a path or file URL.

        Raises ServingError 409 for a loaded name, 507 for too little memory, 400 for bad files, and 500 if the loader
        fails.
        """
        folder = _folder(url)
        while (coming := self._coming.get(name)) is not None:
            await coming.wait()
        if name in self._models:
            raise ServingError(409, "model_already_loaded", f"model {name!r} is already loaded", "model_name")
        done = self._coming[name] = asyncio.Event()
        try:
            await self._add(name, url, folder)
        finally:
            del self._coming[name]
            done.set()

    async def _add(self, name: str, url: str, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        size = await loop.run_in_executor(self._executor, _size_on_disk, folder)
        peak = self._budget.cost(int(size * self._budget.loading_factor))
        await self._make_room(peak)
        with self._reserved(peak):
            started = time.perf_counter()
            try:
                model = await loop.run_in_executor(self._executor, self._load, folder)
            except ModelLoadError as error:
                raise ServingError(400, "model_not_loadable", str(error), "url") from error
            except MemoryError:
                raise self._no_memory("there was too little memory to load the model") from None
            except Exception as error:
                logger.exception("loading %s failed", folder)
                raise ServingError(
                    500, "internal_error", "the model failed to load; see the container's log"
                ) from error
        cost = self._budget.cost(model.size_bytes)
        await self._make_room(cost)
        self._admit(cost)
        self._models[name] = _Entry(url, model, cost)
        self._used += cost
        bisect.insort(self._names, name)
        logger.debug("loaded %s in %.1f ms, %d models", name, (time.perf_counter() - started) * 1e3, len(self._names))

    @contextlib.contextmanager
    def _reserved(self, cost: int) -> Iterator[None]:
        """Reserve memory for a model that is loading, so two models cannot both take the last of it."""
        self._admit(cost)
        self._used += cost
        try:
            yield
        finally:
            self._used -= cost

    async def _make_room(self, cost: int) -> None:
        """Return unused memory to the system if a model of this cost fits the budget but not the process."""
        if self._models and cost <= self._free and cost > self._room:
            await asyncio.get_running_loop().run_in_executor(self._executor, release_unused_memory)

    def _admit(self, cost: int) -> None:
        free, room = self._free, self._room
        if cost > free or (cost > room and self._models):
            raise self._no_memory(
                f"the model counts {cost} bytes, {max(0, min(free, room))} of {self._budget.limit_bytes} are free"
            )

    @property
    def _free(self) -> int:
        """Return the bytes that models may still count."""
        return self._budget.model_bytes - self._used

    @property
    def _room(self) -> int:
        """Return the bytes that the process may still take, keeping half of the headroom free."""
        return int(self._budget.limit_bytes * (1 - self._budget.headroom / 2)) - resident_bytes()

    def _no_memory(self, what: str) -> ServingError:
        oldest = next(iter(self._models), None)
        hint = f"least recently used: {oldest}" if oldest else "no model is loaded, use a larger instance"
        return ServingError(507, "insufficient_memory", f"{what}; {hint}")

    def get(self, name: str) -> LoadedModel:
        """Return a loaded model and mark it as the most recently used; raises ServingError 404."""
        entry = self._entry(name)
        self._models.move_to_end(name)
        return entry.model

    def url(self, name: str) -> str:
        """Return the url that a model was loaded from; raises ServingError 404."""
        return self._entry(name).url

    async def remove(self, name: str) -> None:
        """Unload a model; its requests in flight finish. Raises ServingError 404."""
        self._used -= self._entry(name).cost
        held = [self._models.pop(name)]
        del self._names[bisect.bisect_left(self._names, name)]
        # Freeing the million objects of a large model on the event loop would delay other requests.
        await asyncio.get_running_loop().run_in_executor(None, held.clear)

    def page(self, after: str, limit: int) -> tuple[list[str], str | None]:
        """Return up to `limit` names after `after`, and the last of them if more names follow, else None."""
        begin = bisect.bisect_right(self._names, after) if after else 0
        names = self._names[begin : begin + limit]
        return names, names[-1] if begin + limit < len(self._names) else None

    def _entry(self, name: str) -> _Entry:
        try:
            return self._models[name]
        except KeyError:
            raise ServingError(
                404, "model_not_loaded", f"model {name!r} is not loaded; load it with POST /models", "model_name"
            ) from None


def _folder(url: str) -> Path:
    path = url.removeprefix("file://")
    if not path.startswith("/") or "\0" in path:
        raise ServingError(
            400,
            "invalid_field",
            f"url is {url!r}: it must be the absolute path of an extracted archive, like /opt/ml/models/NAME/model",
            "url",
        )
    return Path(path)


def entries(folder: Path) -> list[Path]:
    """Return the files and folders in an extracted archive, at most MAX_ENTRIES; raises OSError.

    The url of a load request may name any folder in the container, even `/`, so the listing must be bounded.
    """
    return list(itertools.islice(folder.rglob("*"), MAX_ENTRIES))


def _size_on_disk(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in entries(folder) if path.is_file())
    except OSError:
        return 0


class _LoadRequest(msgspec.Struct, frozen=True):
    model_name: str
    url: str


class _Listed(msgspec.Struct, frozen=True, rename="camel"):
    model_name: str
    model_url: str


class _Page(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    models: list[_Listed]
    next_page_token: str | None = None


class _Status(msgspec.Struct, frozen=True):
    status: str


class _Api:
    def __init__(self, store: ModelStore, options: ServingOptions) -> None:
        self._store = store
        self._invoker = Invoker(options)

    async def invoke(self, request: Request) -> Response:
        try:
            model = self._store.get(request.path_params["name"])
        except ServingError as error:
            # Read the rest of the request, or the client sees a reset instead of the response.
            self._invoker.bodies.release(await self._invoker.bodies.read(request))
            return error_response(error)
        return await self._invoker.respond(request, model.invoke)

    async def load(self, request: Request) -> Response:
        body = await self._invoker.bodies.read(request)
        try:
            wanted = msgspec.json.decode(body, type=_LoadRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServingError(
                400, "invalid_request", f'the body is not {{"model_name": "...", "url": "..."}}: {error}'
            ) from error
        finally:
            self._invoker.bodies.release(body)
        for field, text in (("model_name", wanted.model_name), ("url", wanted.url)):
            if len(text) > MAX_TEXT:
                raise ServingError(
                    400, "invalid_field", f"{field} has {len(text)} characters: it may have at most {MAX_TEXT}", field
                )
        if not wanted.model_name or "/" in wanted.model_name:
            raise ServingError(
                400,
                "invalid_field",
                f"model_name is {wanted.model_name!r}: it must not be empty or contain a slash",
                "model_name",
            )
        await self._store.add(wanted.model_name, wanted.url)
        return _json(_Status("loaded"))

    async def list(self, request: Request) -> Response:
        limit = request.query_params.get("limit", str(MAX_PAGE))
        # int() raises ValueError for thousands of digits.
        if not limit.isdecimal() or len(limit) > 9 or not 0 < int(limit) <= MAX_PAGE:
            raise ServingError(400, "invalid_field", f"limit is {limit[:40]!r}: it must be 1 to {MAX_PAGE}", "limit")
        token = request.query_params.get("next_page_token", "")
        try:
            # Without `validate`, invalid characters are skipped, and a broken token would restart the list.
            after = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        except ValueError:
            raise ServingError(
                400,
                "invalid_field",
                f"next_page_token is {token[:40]!r}: send a nextPageToken from this list, or none",
                "next_page_token",
            ) from None
        names, last = self._store.page(after, int(limit))
        listed = [_Listed(name, self._store.url(name)) for name in names]
        sizes = itertools.accumulate(len(msgspec.json.encode(entry)) + len(",") for entry in listed)
        fitting = sum(size <= _PAGE_BYTES for size in sizes)
        if fitting < len(listed):
            listed, last = listed[:fitting], names[fitting - 1]
        return _json(_Page(listed, base64.urlsafe_b64encode(last.encode()).decode() if last else None))

    async def describe(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _json(_Listed(name, self._store.url(name)))

    async def unload(self, request: Request) -> Response:
        await self._store.remove(request.path_params["name"])
        return _json(_Status("unloaded"))


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)


async def _client_left(request: Request, error: Exception) -> Response:
    del request, error  # Starlette passes both to every handler.
    return Response(status_code=499)


async def _serving_error(request: Request, error: Exception) -> Response:
    del request  # Starlette passes it to every handler.
    assert isinstance(error, ServingError)
    return error_response(error)


def create_multi_model_app(
    load: Callable[[Path], LoadedModel], budget: MemoryBudget, options: ServingOptions
) -> Starlette:
    """Build the application around `load`.

    load: loads a model from its folder, on a worker thread; may raise ModelLoadError.
    """
    if budget.model_bytes < budget.cost(0):
        logger.warning(
            "no model fits: %d of %d bytes are available for models", max(0, budget.model_bytes), budget.limit_bytes
        )
    api = _Api(ModelStore(load, budget), options)
    app = Starlette(
        routes=[
            Route("/models/{name}/invoke", api.invoke, methods=["POST"]),
            Route("/ping", ping, methods=["GET"]),
            Route("/models", api.load, methods=["POST"]),
            Route("/models", api.list, methods=["GET"]),
            Route("/models/{name}", api.describe, methods=["GET"]),
            Route("/models/{name}", api.unload, methods=["DELETE"]),
        ],
        exception_handlers={
            HTTPException: http_error(_ANSWERS),
            ServingError: _serving_error,
            ClientDisconnect: _client_left,
        },
    )
    redirect_nothing(app)
    return app


def budget_in(limit_bytes: int, reservation_bytes: int, loading_factor: float = 1.0) -> MemoryBudget:
    """Return the budget of this process; call it before any model is loaded."""
    return MemoryBudget(
        limit_bytes=limit_bytes,
        base_bytes=resident_bytes(),
        reservation_bytes=reservation_bytes,
        loading_factor=loading_factor,
    )
