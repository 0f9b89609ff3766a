"""Errors in the form of the SageMaker APIs, and reasons of failures."""


class ReportedError(Exception):
    """A failure whose message a user can act on: it becomes the FailureReason of what failed."""


class ApiError(ReportedError):
    """An API error: its AWS code, message, HTTP status, and additional members of the response body."""

    def __init__(self, code: str, message: str, status: int = 400, **members: object) -> None:
        super().__init__(message)
        self.code, self.status, self.members = code, status, members


def refused(message: str) -> ApiError:
    """Return the error for input that AWS, or the local account, refuses."""
    return ApiError("ValidationException", message)


def reason_of(error: Exception) -> str:
    """Return the FailureReason that an exception of background work becomes."""
    if isinstance(error, ReportedError):
        return str(error)
    return f"internal failure: {type(error).__name__}: {error}; see `inference local logs hosting`"
