"""Errors that a container answers with, as JSON."""

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
