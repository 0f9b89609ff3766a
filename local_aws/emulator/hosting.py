"""Calls from the emulator to the hosting process."""

import json
import os
import re
import time
from typing import Any

import httpx

from load_tests.signed_requests import SignedRequests

Properties = dict[str, Any]
_URL = os.environ.get("INFERENCE_HOSTING_URL", "")
_ABSENT = "the hosting process of the local account does not respond; see `inference local status`"
_INVOKED = re.compile(r"/endpoints/[A-Za-z0-9-]+/[a-z-]+")
"""Paths of the runtime API. Hosting also has paths that SageMaker's callers must not reach."""
_RESTART_SECONDS = 60
_auth = SignedRequests(os.environ)
_client = httpx.AsyncClient(base_url=_URL, auth=_auth, timeout=90, trust_env=False)


class HostingError(RuntimeError):
    """The hosting process refused a call; the text is its message."""


class HostingAbsentError(HostingError):
    """The hosting process does not respond."""


async def forward(
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    _query: dict[str, list[str]],
) -> tuple[int, dict[str, str], bytes]:
    """Forward a request unchanged to a service that hosting implements."""
    if path != "/" and not _INVOKED.fullmatch(path):
        message = json.dumps({"__type": "UnknownOperationException", "message": f"{method} {path[:100]}"})
        return 404, {"Content-Type": "application/json"}, message.encode()
    kept = {
        name: value
        for name, value in headers.items()
        if name.lower() in ("content-type", "accept", "x-amz-target") or name.lower().startswith("x-amzn-")
    }
    try:
        response = await _client.request(method, path, content=body, headers=kept)
    except httpx.HTTPError:
        return (
            503,
            {"Content-Type": "application/json"},
            json.dumps({"__type": "ServiceUnavailable", "message": _ABSENT}).encode(),
        )
    dropped = {"content-length", "date", "server", "connection"}
    return response.status_code, {n: v for n, v in response.headers.items() if n not in dropped}, response.content


def call(target: str, request: Properties) -> Properties:
    """Call the hosting process by X-Amz-Target; raise HostingError with its message."""
    try:
        response = httpx.post(
            _URL, json=request, headers={"X-Amz-Target": target}, auth=_auth, timeout=60, trust_env=False
        )
    except httpx.TransportError as error:
        raise HostingAbsentError(_ABSENT) from error
    content: Properties = response.json()
    if response.status_code >= 400:
        raise HostingError(content["message"])
    return content


def ask(target: str, request: Properties) -> Properties:
    """Make a read-only call, and retry it while the hosting process restarts; raise HostingError."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            return call(target, request)
        except HostingAbsentError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
