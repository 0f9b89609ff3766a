"""Errors that a container answers with, as JSON."""

import traceback
from dataclasses import dataclass


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
        error = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


class StartupError(RuntimeError):
    """The container cannot serve this model on this machine; the message is one line."""


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
