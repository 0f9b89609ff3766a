"""Responses of MiniStack's services, and the account and region of the request being handled."""

import json
from typing import Any

from ministack.core import responses

Response = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def account_id() -> str:
    """Return the account of the current request."""
    account: str = responses.get_account_id()
    return account


def region() -> str:
    """Return the region of the current request."""
    name: str = responses.get_region()
    return name


def json_response(content: dict[str, Any]) -> Response:
    """Return a successful response of a JSON service."""
    response: Response = responses.json_response(content)
    return response


def error_response(code: str, message: str, status: int) -> Response:
    """Return an error of a JSON service."""
    response: Response = responses.error_response_json(code, message, status)
    return response


def raise_for_status(response: Response) -> None:
    """Raise RuntimeError with the message of an error response."""
    status, _, body = response
    if status >= 400:
        raise RuntimeError(json.loads(body)["message"])
