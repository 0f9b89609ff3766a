"""Patterns in policies: wildcards, ARNs and policy variables.

Sources: "IAM JSON policy elements: Resource", "IAM JSON policy elements: Variables and tags" and "IAM JSON policy
elements: Condition operators" in the IAM user guide.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

Context = Mapping[str, Sequence[str]]
"""A request's condition keys, in lower case, and their values."""
Piece = tuple[str, bool]
"""Part of a pattern, and whether its text is literal, so that `*` and `?` in it are no wildcards."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)'\s*)?")
_ESCAPES = ("*", "?", "$")
"""Characters that `${*}`, `${?}` and `${$}` stand for."""
_ARN_PARTS = 6


def expand(pattern: str, context: Context) -> tuple[Piece, ...] | None:
    """Replace a pattern's policy variables; return None if one has neither a single value nor a default.

    A value is literal: wildcards in it match only themselves.
    """
    pieces: list[Piece] = []
    end = 0
    for variable in _VARIABLE.finditer(pattern):
        value = _value(variable[1], context)
        if value is None:
            return None
        pieces += [(pattern[end : variable.start()], False), (value, True)]
        end = variable.end()
    return (*pieces, (pattern[end:], False))


def _value(variable: str, context: Context) -> str | None:
    if variable in _ESCAPES:
        return variable
    parsed = _DEFAULT.fullmatch(variable)
    if parsed is None:
        return None
    values = context.get(parsed[1].lower(), ())
    default: str | None = parsed[2]
    return values[0] if len(values) == 1 else default


def text(pieces: Sequence[Piece]) -> str:
    """Return expanded pieces as plain text."""
    return "".join(piece for piece, _ in pieces)


def matches_text(pieces: Sequence[Piece], value: str) -> bool:
    """Match `*` (any characters) and `?` (one character), case-sensitively."""
    return _compiled(tuple(pieces)).fullmatch(value) is not None


def matches_action(pattern: str, action: str) -> bool:
    """Match an action such as `s3:GetObject`; case does not matter."""
    return _compiled(((pattern.lower(), False),)).fullmatch(action.lower()) is not None


def matches_resource(pieces: Sequence[Piece], resource: str) -> bool:
    """Match a resource as the element `Resource` does.

    A `*` at the end of an ARN's segment also matches colons. Missing segments of a pattern are wildcards.
    """
    return _compiled_resource(tuple(pieces)).fullmatch(resource) is not None


def matches_arn(pieces: Sequence[Piece], arn: str) -> bool:
    """Match an ARN as ArnLike does: each of the six segments separately."""
    patterns, values = _segments(pieces), arn.split(":", _ARN_PARTS - 1)
    return len(patterns) == len(values) and all(map(matches_text, patterns, values))


def _segments(pieces: Sequence[Piece]) -> list[list[Piece]]:
    segments: list[list[Piece]] = [[]]
    for piece, literal in pieces:
        first, *others = piece.split(":", _ARN_PARTS - len(segments))
        segments[-1].append((first, literal))
        segments += [[(other, literal)] for other in others]
    return segments


@lru_cache(maxsize=4096)
def _compiled(pieces: tuple[Piece, ...]) -> re.Pattern[str]:
    expression = "".join(re.escape(piece) if literal else _glob(piece, ".*") for piece, literal in pieces)
    return re.compile(expression, re.DOTALL)


@lru_cache(maxsize=4096)
def _compiled_resource(pieces: tuple[Piece, ...]) -> re.Pattern[str]:
    segments = _segments(pieces)
    if text(segments[0]) != "arn":
        return _compiled(pieces)
    segments += [[("*", False)]] * (_ARN_PARTS - len(segments))
    expressions = []
    for position, segment in enumerate(segments, 1):
        last = position == _ARN_PARTS
        expression = "".join(
            re.escape(piece) if literal else _glob(piece, ".*" if last else "[^:]*") for piece, literal in segment
        )
        # The wildcard that ends a segment expands beyond the colon.
        if expression.endswith("[^:]*"):
            expression = expression.removesuffix("[^:]*") + ".*"
        expressions.append(expression)
    return re.compile(":".join(expressions), re.DOTALL)


def _glob(pattern: str, wildcard: str) -> str:
    return "".join(wildcard if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)
