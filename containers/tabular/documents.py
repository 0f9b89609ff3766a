"""Read model files in UBJSON or JSON into dictionaries, within limits on memory and time."""

import contextlib
import json
import re
from typing import Any

import numpy as np

from containers.tabular import ubjson
from containers.tabular.forest import NUMBERS

MAX_JSON_BYTES = 32 * 2**20
"""Largest model in JSON. UBJSON of the same model takes half the size, and reads several times as fast."""
_MAX_ENVELOPE_BYTES = 2**20
"""Largest JSON outside the trees: parameters, feature names, and an integer for each tree."""
_CONTAINER_SHARE = 16
"""Fewest bytes of JSON per array or object; XGBoost's files have 26 or more."""
_COMMA_SHARE = 5
"""Fewest bytes of JSON per comma; XGBoost's files have 6 or more, and a number takes up to 44 bytes in memory."""
_SPARE = 4096
_MAX_TREE = 8 * 2**20
"""Most characters of JSON for one tree: 130,000 nodes. A tree is parsed at once, into ten times its size."""
_WINDOW = _MAX_TREE + _MAX_TREE // 4
"""Characters searched for the next trees."""
_JSON_STARTS = (b'{"', b"{\n", b"{ ")
_SPACE = re.compile(r"[ \t\r\n]*")
# Quotation marks inside a JSON string are escaped, so this can only match the name of a member.
_TREES = re.compile(r'"trees"[ \t\r\n]*:[ \t\r\n]*\[')
_PLACEHOLDER = "\0trees"
_DECODER = json.JSONDecoder()


class DocumentError(ValueError):
    """A file that is not a document within the limits; the message says where or why."""


def read_document(data: bytes) -> dict[str, Any]:
    """Read a model file, with its trees as dictionaries; raises ValueError or RecursionError for other content."""
    document = _json(data) if data[:2] in _JSON_STARTS else ubjson.loads(data)
    if not isinstance(document, dict):
        raise DocumentError(f"it is a {type(document).__name__}, not an object")
    return document


def _json(data: bytes) -> Any:
    if len(data) > MAX_JSON_BYTES:
        raise DocumentError(f"it has {len(data)} bytes of JSON, at most {MAX_JSON_BYTES} are read: save it as UBJSON")
    counts = (
        ("arrays and objects", data.count(b"[") + data.count(b"{"), len(data) // _CONTAINER_SHARE + _SPARE),
        ("commas", data.count(b","), len(data) // _COMMA_SHARE + _SPARE),
    )
    for what, count, most in counts:
        if count > most:
            raise DocumentError(f"it has {count} {what}; a model of {len(data)} bytes may have at most {most}")
    text = data.decode()
    match = _TREES.search(text)
    if match is None:
        _check_envelope(len(text))
        return json.loads(text)
    # One tree at a time: the parser holds the GIL until it is done, which would block the event loop.
    trees, end = _trees(text, match.end())
    begin = match.end() - 1
    _check_envelope(begin + len(text) - end)
    document = json.loads(text[:begin] + json.dumps(_PLACEHOLDER) + text[end:])
    with contextlib.suppress(LookupError, TypeError):
        model = document["learner"]["gradient_booster"]["model"]
        if model["trees"] == _PLACEHOLDER:
            model["trees"] = trees
    return document


def _check_envelope(size: int) -> None:
    if size > _MAX_ENVELOPE_BYTES:
        raise DocumentError(f"it has {size} bytes of JSON outside its trees, at most {_MAX_ENVELOPE_BYTES} are read")


def _trees(text: str, position: int) -> tuple[list[Any], int]:
    """Return the elements of the array whose opening bracket ends at `position`, and the array's end position."""
    trees: list[Any] = []
    position = _after_space(text, position)
    if text[position : position + 1] == "]":
        return trees, position + 1
    begin, window = position, text[position : position + _WINDOW]
    while True:
        position = _after_space(window, position - begin) + begin
        if begin + len(window) < len(text) and begin + len(window) - position < _MAX_TREE:
            begin, window = position, text[position : position + _WINDOW]
        try:
            tree, end = _DECODER.raw_decode(window, position - begin)
        except json.JSONDecodeError as error:
            if begin + len(window) < len(text):
                raise DocumentError(
                    f"tree {len(trees)} has more than {_MAX_TREE} characters of JSON: save it as UBJSON"
                ) from error
            raise
        trees.append(_with_arrays(tree))
        position = _after_space(text, begin + end)
        following = text[position : position + 1]
        position += 1
        if following == "]":
            return trees, position
        if following != ",":
            raise DocumentError(f"character {position}: tree {len(trees) - 1} must be followed by a comma or a bracket")


def _with_arrays(tree: Any) -> Any:
    """Return the tree with its lists of numbers as arrays, which take a quarter of the memory."""
    if not isinstance(tree, dict):
        return tree
    return {
        name: np.asarray(value) if type(value) is list and value and set(map(type, value)) <= NUMBERS else value
        for name, value in tree.items()
    }


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space is not None else position
