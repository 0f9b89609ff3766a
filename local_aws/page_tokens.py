"""Tokens of lists' pages: the index at which the next page begins."""

import base64


def encode(begin: int) -> str:
    """Return the token of the page that begins at an index."""
    return base64.b64encode(str(begin).encode()).decode()


def decode(token: str | None) -> int:
    """Return the index at which a token's page begins, 0 without a token; raise ValueError for any other text."""
    return int(base64.b64decode(token, validate=True)) if token else 0
