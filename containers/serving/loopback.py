"""Refuse requests from web pages to a container that listens on a loopback port.

Under SageMaker this does not apply: there a container listens on every interface of its own network. On a developer's
machine, a page could otherwise send requests to the port, or read responses through a name that resolves to 127.0.0.1.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from containers.serving.app import error_response
from containers.serving.errors import ServingError

HOSTS = ("127.0.0.1", "::1", "localhost")
_NAMES = (b"127.0.0.1", b"localhost", b"[::1]")


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> ServingError | None:
    """Return the error for a request that a web page sent, None for any other; header names may have any case."""
    for name, value in headers:
        lower = name.lower()
        if lower == b"origin" or (lower == b"host" and not _is_own(value)):
            text = f"{lower.decode('latin-1')} is {value[:100].decode('latin-1')!r}"
            return ServingError(403, "forbidden", f"{text}: send Host 127.0.0.1 and no Origin, as local programs do")
    return None


def _is_own(host: bytes) -> bool:
    name, separator, port = host.rpartition(b":")
    return host in _NAMES or bool(separator and port.isdigit() and name in _NAMES)


class LoopbackOnly:
    """ASGI middleware that refuses requests from web pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        error = refusal(scope["headers"]) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        response = error_response(error)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
