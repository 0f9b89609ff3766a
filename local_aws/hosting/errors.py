"""Errors in the form of the SageMaker APIs."""


class ApiError(Exception):
    """An API error: its AWS code, message, HTTP status, and additional members of the response body."""

    def __init__(self, code: str, message: str, status: int = 400, **members: object) -> None:
        super().__init__(message)
        self.code, self.status, self.members = code, status, members
