"""Pages of a list, as MaxResults and NextToken ask for them."""

from collections.abc import Sequence
from typing import Any

from local_aws import page_tokens
from local_aws.hosting.errors import ApiError

Document = dict[str, Any]


def page(member: str, rows: Sequence[Document], request: Document, *, size: int, error: str) -> Document:
    """Return a response with one page of the rows, and the token of the next page if there is one.

    member: name of the response's list. size: rows of a page without MaxResults. error: code for an invalid NextToken.
    """
    begin = 0
    if token := request.get("NextToken"):
        try:
            begin = page_tokens.decode(token)
        except ValueError:
            begin = 0
        if begin <= 0:
            raise ApiError(error, "NextToken was not returned by this list")
    end = begin + int(request.get("MaxResults", size))
    response: Document = {member: list(rows[begin:end])}
    if end < len(rows):
        response["NextToken"] = page_tokens.encode(end)
    return response
