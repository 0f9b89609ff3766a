"""ASGI middleware that refuses browser requests, unknown keys and bad signatures before any handler runs."""

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from local_aws.authentication.credentials import Credential, CredentialStore
from local_aws.authentication.errors import (
    AuthenticationError,
    ErrorResponse,
    Protocol,
    invalid_key,
    mismatch,
    protocol_of,
    render,
)
from local_aws.authentication.sigv4 import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_AND_TRAILER,
    UNSIGNED,
    UNSIGNED_CHUNKS,
    HttpRequest,
    Signature,
    check_time,
    is_hash,
    payload_hash,
    read_signature,
    verify,
    verify_chunks,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALLER = "local_aws.caller"
"""Key in the ASGI scope of a verified request: its Credential."""
MAX_UNDECLARED_BYTES = 64 * 2**20
"""Largest body held in memory to hash it. The largest legitimate one, a Lambda function's archive, has 50 MB."""
MAX_PENDING_BYTES = 4 * MAX_UNDECLARED_BYTES
"""Limit on all such bodies together, since their senders are not verified yet."""
BODY_SECONDS = 60.0
"""Deadline for such a body, in seconds."""
OPERATOR_PATHS = ("/_local/", "/_localstack/", "/_ministack/")
"""Paths that control the account itself; keys of builds, functions, tasks and replicas cannot call them."""
_DRAIN_BYTES = 8 * 2**20
_DRAIN_SECONDS = 5.0


class Authentication:
    """Middleware that passes on only requests signed by a key of the account and sent to the exact listening address.

    address: `HOST:PORT` as clients write it. anonymous: protocol of the error for a request that names no service. Any
    other request gets AWS's error, and no handler sees it.
    """

    def __init__(
        self, app: App, credentials: CredentialStore, address: str, anonymous: Protocol = Protocol.JSON
    ) -> None:
        self._app, self._credentials, self._address, self._anonymous = app, credentials, address, anonymous
        self._pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        request, service = _request(scope), ""
        body = _Body(receive)
        try:
            self._check_address(request)
            signature = read_signature(request)
            service = signature.service
            credential = self._credential(signature)
            # Handlers are selected by the decoded path.
            if not credential.operates and scope["path"].startswith(OPERATOR_PATHS):
                raise AuthenticationError(
                    403,
                    "AccessDenied",
                    f"{request.path} controls the account: sign with the key from inference local env",
                )
            if not signature.for_s3:
                _require_normalized(scope["path"])
            verified = await self._verified(request, signature, credential.secret_access_key, body)
        except AuthenticationError as error:
            protocol = protocol_of(service, request.headers, request.query, self._anonymous)
            await _refuse(render(error, protocol), request, body, send)
            return
        await self._app({**scope, CALLER: credential}, verified, _without_cors(send))

    async def _verified(self, request: HttpRequest, signature: Signature, secret: str, receive: Receive) -> Receive:
        """Return a `receive` that yields the body after it is verified against the signature.

        Raises AuthenticationError.
        """
        declared = payload_hash(signature, request)
        if declared is not None:
            return await _checked(request, signature, secret, declared, receive)
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._pending += size
            if held > MAX_UNDECLARED_BYTES:
                raise AuthenticationError(
                    413,
                    "RequestEntityTooLarge",
                    f"The body is over {MAX_UNDECLARED_BYTES} bytes: declare its hash in X-Amz-Content-Sha256, or send "
                    "less",
                )
            if self._pending > MAX_PENDING_BYTES:
                raise AuthenticationError(503, "ServiceUnavailable", "Too many bodies are pending; try again")

        try:
            async with asyncio.timeout(BODY_SECONDS):
                chunks = await _body(receive, hold)
        except TimeoutError:
            raise AuthenticationError(
                400, "RequestTimeout", f"The body did not arrive within {BODY_SECONDS:g} s"
            ) from None
        finally:
            self._pending -= held
        verify(signature, request, secret, await _digest(chunks))
        return replay(chunks, receive)

    def _check_address(self, request: HttpRequest) -> None:
        """Refuse requests that a web page could send: DNS rebinding, or any cross-origin request."""
        host = request.headers.get("host", "")
        if host != self._address:
            raise AuthenticationError(403, "AccessDenied", f"Host is '{host[:100]}': it must be {self._address}")
        if "origin" in request.headers:
            raise AuthenticationError(
                403, "AccessDenied", "The request has an Origin header: requests from web pages are refused"
            )

    def _credential(self, signature: Signature) -> Credential:
        credential = self._credentials.find(signature.access_key_id)
        if credential is None:
            raise invalid_key()
        check_time(signature)
        if not hmac.compare_digest(credential.session_token.encode(), signature.session_token.encode()):
            raise invalid_key()
        if credential.expired:
            raise AuthenticationError(
                403, "ExpiredTokenException", "The security token included in the request is expired"
            )
        return credential


def _without_cors(send: Send) -> Send:
    """Drop the headers with which the emulator would let any web page read its responses."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            kept = [each for each in headers if not each[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": kept}
        await send(message)

    return sent


def _request(scope: Scope) -> HttpRequest:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return HttpRequest.of(
        scope["method"],
        path.partition(b"?")[0].decode("latin-1"),
        scope.get("query_string", b"").decode("latin-1"),
        ((name.decode("latin-1"), _text(value)) for name, value in scope["headers"]),
    )


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _require_normalized(path: str) -> None:
    """Refuse a path that normalizes to another one: the signature covers the latter, handlers act on the former."""
    segments = path.split("/")[1:]
    if any(segment in (".", "..") for segment in segments) or "" in segments[:-1]:
        raise AuthenticationError(400, "ValidationException", f"The path {path[:100]!r} is not normalized")


async def _checked(request: HttpRequest, signature: Signature, secret: str, declared: str, receive: Receive) -> Receive:
    """Return a `receive` that yields a body with the declared hash after it is verified against the signature."""
    # Verify the head first, so that only a key's owner can make this process read a large body.
    verify(signature, request, secret, declared)
    if declared in (UNSIGNED, UNSIGNED_CHUNKS):
        return receive
    chunks = await _body(receive, lambda _: None)
    if declared in (SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER):
        verify_chunks(signature, secret, b"".join(chunks), trailer=declared == SIGNED_CHUNKS_AND_TRAILER)
        return replay(chunks, receive)
    if is_hash(declared) and await _digest(chunks) != declared:
        raise _altered() if signature.for_s3 else mismatch()
    return replay(chunks, receive)


def _altered() -> AuthenticationError:
    return AuthenticationError(
        400,
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )


async def _digest(chunks: "deque[bytes]") -> str:
    """Hash a body, off the event loop if hashing takes longer than the thread switch."""

    def hashed() -> str:
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest()

    small = sum(map(len, chunks)) < 2**18
    return hashed() if small else await asyncio.to_thread(hashed)


async def _body(receive: Receive, hold: Callable[[int], None]) -> "deque[bytes]":
    chunks: deque[bytes] = deque()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AuthenticationError(
                400, "RequestTimeout", "The client closed the connection before its body was complete"
            )
        if chunk := message.get("body", b""):
            chunks.append(chunk)
            hold(len(chunk))
        if not message.get("more_body", False):
            return chunks


def replay(chunks: "deque[bytes]", receive: Receive) -> Receive:
    """Return a callable that hands out a body that was read, chunk by chunk, and then whatever `receive` returns."""
    done = False

    async def handed_out() -> Message:
        nonlocal done
        if done:
            return await receive()
        body = chunks.popleft() if chunks else b""
        done = not chunks
        return {"type": "http.request", "body": body, "more_body": not done}

    return handed_out


class _Body:
    """A `receive` that knows whether more of the body is to come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Discard the rest of the body, up to a limit."""
        size = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._complete and size <= _DRAIN_BYTES:
                    size += len((await self()).get("body", b""))
        except TimeoutError:
            return


async def _refuse(response: ErrorResponse, request: HttpRequest, body: _Body, send: Send) -> None:
    # A client that reads no response until it has sent its body would see a reset instead of the error.
    if request.headers.get("expect", "").lower() != "100-continue":
        await body.drain()
    content = b"" if request.method == "HEAD" else response.body
    headers = {**response.headers, "content-length": str(len(content)), "connection": "close"}
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": content})
