"""ASGI middleware that gives every response a request ID, as every AWS service does."""

import uuid

from starlette.datastructures import MutableHeaders

from local_aws.authentication.middleware import App, Message, Receive, Scope, Send

_HEADER = "x-amzn-RequestId"


class RequestIds:
    """Middleware in front of an application, whose refusals get an ID too."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message).setdefault(_HEADER, str(uuid.uuid4()))
            await send(message)

        await self._app(scope, receive, with_id)
