"""The ASGI application of the SageMaker contract for one model: `/ping` and `/invocations`."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from containers.serving.bodies import Bodies
from containers.serving.cancellation import Cancellation, cancel_when_client_leaves
from containers.serving.errors import ServingError, forget_frames, where_it_failed

logger = logging.getLogger("serving")

JSON = "application/json"
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One request as the model code sees it: the whole body, and its media types in lower case.

    accept: media types the client accepts; `*/*` if it names none.
    cancellation: whether the client still waits for the response. Models that compute for long check it.
    on_event_loop: whether the model code runs on the event loop, which serves nothing else meanwhile. It may then
        raise RunOnThread.
    """

    body: bytes
    content_type: str
    accept: str = "*/*"
    cancellation: Cancellation = field(default_factory=Cancellation, compare=False)
    on_event_loop: bool = False


class RunOnThread(Exception):  # noqa: N818 - a request to the server, not an error
    """A request from model code on the event loop to be called again on a thread, for a slow invocation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response from the model code.

    attributes: value of SageMaker's custom attributes header; empty for none.
    """

    body: bytes
    content_type: str = JSON
    attributes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Limits of one server.

    workers: requests computed at the same time, each on its own thread.
    queue_capacity: most requests that compute or wait after their bodies have arrived. The next one gets a 503.
    pending_bytes: most bytes that request bodies hold together, from first byte to response; see Bodies. The next
        one gets a 503.
    readers: most requests whose bodies have partly arrived. The next one gets a 503.
    body_timeout_seconds: time a client has to send its body.
    content_types: accepted media types; the first is the default for a request without one.
    inline_bytes: largest body computed on the event loop, for models that respond faster than a switch to a thread
        and back.
    """

    workers: int = 1
    queue_capacity: int = 64
    pending_bytes: int = 64 * 2**20
    readers: int = 64
    body_timeout_seconds: float = 30.0
    content_types: tuple[str, ...] = (JSON,)
    inline_bytes: int = 0


class Invoker:
    """A reader of requests that bounds how many wait and computes their responses."""

    def __init__(self, options: ServingOptions) -> None:
        self._options = options
        self._threads = CapacityLimiter(options.workers)
        self.bodies = Bodies(
            capacity_bytes=options.pending_bytes,
            readers=options.readers,
            timeout_seconds=options.body_timeout_seconds,
        )
        self._pending = 0

    async def respond(self, request: Request, invoke: Callable[[Invocation], Answer]) -> Response:
        """Return the response to one invocation; every failure of `invoke` becomes a JSON error."""
        try:
            answer = await self._answer(request, invoke)
        except ServingError as error:
            forget_frames(error)
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            logger.error("an invocation failed\n%s", where_it_failed(error))
            forget_frames(error)
            return error_response(
                ServingError(500, "internal_error", "the model failed on this input; see the container's log")
            )
        headers = {CUSTOM_ATTRIBUTES: answer.attributes} if answer.attributes else None
        return Response(answer.body, media_type=answer.content_type, headers=headers)

    async def _answer(self, request: Request, invoke: Callable[[Invocation], Answer]) -> Answer:
        accepted = self._options.content_types
        content_type = request.headers.get("content-type", accepted[0]).partition(";")[0].strip().lower()
        if content_type not in accepted:
            raise ServingError(
                415,
                "unsupported_media_type",
                f"Content-Type is {content_type!r}; send one of: {', '.join(accepted)}",
            )
        self._check_queue()
        cancellation = Cancellation()
        body = await self.bodies.read(request)
        try:
            # The queue may have filled while the body arrived.
            self._check_queue()
            self._pending += 1
            try:
                accept = request.headers.get("accept", "*/*").strip().lower()
                inline = len(body) <= self._options.inline_bytes
                invocation = Invocation(body, content_type, accept, cancellation, inline)
                if inline:
                    try:
                        return invoke(invocation)
                    except RunOnThread:
                        invocation = replace(invocation, on_event_loop=False)
                return await self._compute(request, invoke, invocation)
            finally:
                self._pending -= 1
        finally:
            self.bodies.release(body)

    async def _compute(
        self, request: Request, invoke: Callable[[Invocation], Answer], invocation: Invocation
    ) -> Answer:
        # anyio reuses the thread that worked last, whose core has a warm cache.
        watch = asyncio.ensure_future(cancel_when_client_leaves(request.receive, invocation.cancellation))
        try:
            return await to_thread.run_sync(invoke, invocation, limiter=self._threads)
        finally:
            watch.cancel()

    def _check_queue(self) -> None:
        if self._pending >= self._options.queue_capacity:
            raise ServingError(
                503, "overloaded", f"{self._pending} requests are waiting; try again later", retry_after_seconds=1
            )


def error_response(error: ServingError) -> Response:
    """Return the JSON response for an error."""
    headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds is not None else None
    if error.code in ("body_timeout", "body_too_large"):
        headers = {**(headers or {}), "Connection": "close"}
    return Response(msgspec.json.encode(error.body()), status_code=error.status, media_type=JSON, headers=headers)


def http_error(answers: str) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    """Return a handler for unknown paths and methods; `answers` lists the routes that the container has."""

    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
        message = f"{request.method} {request.url.path}: this container serves {answers}"
        return error_response(ServingError(status, code, message))

    return handle


async def ping(request: Request) -> Response:
    """Return 200: the server starts only once the model is loaded and warm."""
    del request  # Starlette passes it to every endpoint.
    return Response(b"{}", media_type=JSON)


def create_app(invoke: Callable[[Invocation], Answer], options: ServingOptions) -> Starlette:
    """Build the application around `invoke`, which runs on worker threads and may raise ServingError.

    The model must be loaded and warm before the application is served: `/ping` returns 200 from the first request.
    """
    invoker = Invoker(options)

    async def invocations(request: Request) -> Response:
        return await invoker.respond(request, invoke)

    app = Starlette(
        routes=[Route("/ping", ping, methods=["GET"]), Route("/invocations", invocations, methods=["POST"])],
        exception_handlers={HTTPException: http_error("GET /ping and POST /invocations")},
    )
    redirect_nothing(app)
    return app


def redirect_nothing(app: Starlette) -> None:
    """Respond with 404 to a path with an extra slash.

    SageMaker follows no redirects, and Starlette would redirect to whatever host the Host header names.
    """
    app.router.redirect_slashes = False


def log_ready(what: str, started: float) -> None:
    """Log one line when the server is ready; `started` is `time.perf_counter()` at process start."""
    logger.info("%s ready in %.1f s", what, time.perf_counter() - started)
