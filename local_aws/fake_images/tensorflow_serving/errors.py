"""TensorFlow's canonical errors, with the HTTP status that TensorFlow Serving gives each.

Source: ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc.
"""

from enum import Enum


class Code(Enum):
    """Number of a canonical code, the same in TensorFlow and gRPC, and its HTTP status."""

    CANCELLED = (1, 499)
    UNKNOWN = (2, 500)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    ABORTED = (10, 409)
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    DATA_LOSS = (15, 500)
    UNAUTHENTICATED = (16, 401)

    @property
    def http_status(self) -> int:
        """Return the status of a REST response."""
        return self.value[1]

    @classmethod
    def of(cls, number: int) -> "Code":
        """Return the code of TensorFlow's number for it."""
        return next((code for code in cls if code.value[0] == number), cls.UNKNOWN)


class StatusError(Exception):
    """A request that failed, with TensorFlow Serving's code and wording."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def text(self) -> str:
        """Return code and message, as TensorFlow Serving quotes an error within another."""
        return f"{self.code.name}: {self}"


def invalid(message: str) -> StatusError:
    """Return the error for a bad request."""
    return StatusError(Code.INVALID_ARGUMENT, message)
