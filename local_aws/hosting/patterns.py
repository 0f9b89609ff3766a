"""Java's regular expressions, as service models have them, translated to Python's."""

import re
import sys
import unicodedata
from collections import defaultdict
from functools import cache
from itertools import groupby

_ASCII_CLASSES = {"Print": r"\x20-\x7e", "ASCII": r"\x00-\x7f", "Alnum": "a-zA-Z0-9", "Alpha": "a-zA-Z", "Digit": "0-9"}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")
_SURROGATES = r"\uD800\uDC00-\uDBFF\uDFFF"
"""Java's notation for every character beyond the Basic Multilingual Plane."""


@cache
def compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a service model's pattern for `fullmatch`, or None for the few that are invalid in Python too."""
    translated = pattern.replace(_SURROGATES, r"\U00010000-\U0010FFFF").replace(r"\z", r"\Z")
    try:
        return re.compile(_PROPERTY.sub(_class_of, _bracketed(translated)))
    except re.error:
        return None


def _bracketed(pattern: str) -> str:
    r"""Put every property outside of brackets into its own, so a list of characters can replace it."""
    parts, inside = [], False
    for token in re.findall(r"\\p\{\w+\}|\\.|.", pattern, re.DOTALL):
        if token == "[":
            inside = True
        elif token == "]":
            inside = False
        parts.append(f"[{token}]" if _PROPERTY.fullmatch(token) and not inside else token)
    return "".join(parts)


def _class_of(match: re.Match[str]) -> str:
    return _ASCII_CLASSES.get(match[1]) or _category(match[1])


def _category(name: str) -> str:
    """Return the ranges of characters whose Unicode category begins with a name, for use within brackets."""
    ranges = [members for category, members in _categories().items() if category.startswith(name)]
    if not ranges:
        raise re.error(f"there is no category {name}")
    return "".join(ranges)


@cache
def _categories() -> dict[str, str]:
    """Return the ranges of each Unicode category."""
    ranges: defaultdict[str, list[str]] = defaultdict(list)
    for category, run in groupby(range(sys.maxunicode + 1), key=lambda code: unicodedata.category(chr(code))):
        first, *rest = run
        ranges[category].append(f"\\U{first:08x}-\\U{rest[-1] if rest else first:08x}")
    return {category: "".join(members) for category, members in ranges.items()}
