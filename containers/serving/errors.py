"""Errors that a container returns as JSON, and helpers to log them."""

import traceback
from dataclasses import dataclass

_MAX_TEXT = 2000
"""Most characters of a message. It may quote names from a request of up to 6 MiB, the limit of a response as well."""


# Not frozen: context managers set __traceback__ on the exceptions they pass on. eq=False: eq would remove the hash.
@dataclass(slots=True, eq=False)
class ServingError(Exception):
    """A request that cannot be served.

    status: HTTP status; 4xx for the client's mistake, 503 for overload.
    code: stable name for programs.
    message: the invalid value and how to fix it.
    field: JSON path of the invalid field, if there is one.
    retry_after_seconds: value of the Retry-After header.
    """

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, dict[str, str]]:
        """Return the JSON body: `{"error": {"code", "message", "field"}}`."""
        error = {"code": self.code, "message": _shortened(self.message)}
        if self.field is not None:
            error["field"] = _shortened(self.field)
        return {"error": error}


class StartupError(RuntimeError):
    """A model that the container cannot serve on this machine; the message is one line."""


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def forget_frames(error: BaseException) -> None:
    """Drop the frames of a handled exception and of its causes.

    A frame refers to the request's body. If a thread raised the exception, it and its frames refer to each other, and
    the body would stay in memory until the next garbage collection.
    """
    following: BaseException | None = error
    while following is not None:
        following.__traceback__ = None
        following = following.__cause__ or following.__context__


def where_it_failed(error: BaseException) -> str:
    """Return the types and lines of code of an exception and its causes, for the log.

    Their messages are left out, since they may quote the request.
    """
    parts = []
    while True:
        parts.append(
            "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__qualname__} (message left out)"
        )
        following = error.__cause__ or error.__context__
        if following is None:
            return "\ncaused by\n".join(parts)
        error = following
