"""Errors that a container answers with, as JSON."""

import traceback
from dataclasses import dataclass

_MAX_TEXT = 2000
"""Characters of a message: it may quote names of a request, which has up to 6 MiB, and so has a response."""


# Not frozen: context managers that an exception leaves through set its __traceback__. Not eq: that takes its hash.
@dataclass(slots=True, eq=False)
class ServingError(Exception):
    """A request that cannot be served.

    status: HTTP status; 4xx for the client's fault, 503 for overload.
    code: stable name for machines. message: what was given and how to fix it.
    field: JSON path of the offending field, where there is one.
    retry_after_seconds: sent as Retry-After.
    """

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON body: `{"error": {"code", "message", "field"}}`."""
        error = {"code": self.code, "message": _shortened(self.message)}
        if self.field is not None:
            error["field"] = _shortened(self.field)
        return {"error": error}


class StartupError(RuntimeError):
    """The container cannot serve this model on this machine; the message is one line."""


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def forget_frames(error: BaseException) -> None:
    """Drop the frames of an exception that has been handled, and of those before it.

    A frame holds the request's body. Where a thread raised it, the exception and its frames hold each other, and the
    body would stay until the collector comes by.
    """
    following: BaseException | None = error
    while following is not None:
        following.__traceback__ = None
        following = following.__cause__ or following.__context__


def where_it_failed(error: BaseException) -> str:
    """An exception's types and lines of code, for the log: its message may quote the request, and is left out."""
    found = []
    while True:
        found.append(
            "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__qualname__} (message left out)"
        )
        following = error.__cause__ or error.__context__
        if following is None:
            return "\ncaused by\n".join(found)
        error = following
