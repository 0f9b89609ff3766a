"""Restrict a loopback page to the person who started it; refuse other users and other web pages."""

import hmac
import secrets

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class PrivatePage:
    """Middleware that serves an application below a random path, at one address, to its own pages only.

    address: `HOST:PORT` as a browser writes it. A request without the token, from another origin, or with another
    Host (as in DNS rebinding) gets 403.
    """

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._app, self._address = app, address
        self._token = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """URL of the page; anyone who has it can read the page."""
        return f"http://{self._address}/{self._token}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        token, _, rest = scope["path"].removeprefix("/").partition("/")
        here, origin = self._address.encode(), f"http://{self._address}".encode()
        hosts = {value for name, value in headers if name == b"host"}
        origins = {value for name, value in headers if name == b"origin"}
        own = hosts == {here} and origins <= {origin}
        if not own or not hmac.compare_digest(token.encode(), self._token.encode()):
            refusal = PlainTextResponse("open the address that `inference local dashboard` printed\n", 403)
            await refusal(scope, receive, send)
            return
        path = f"/{rest}"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, guarded)
