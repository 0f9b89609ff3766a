"""Model files as documents: UBJSON or JSON in, dictionaries out, within bounds of memory and time."""

import contextlib
import json
import re
from typing import Any

import numpy as np

from containers.tabular import ubjson
from containers.tabular.forest import NUMBERS

MAX_JSON_BYTES = 32 * 2**20
"""Largest model in JSON. UBJSON of the same model takes half, and is read several times as fast."""
_MAX_ENVELOPE_BYTES = 2**20
"""Largest JSON around the trees: parameters, names of features, and an integer for each tree."""
_CONTAINER_SHARE = 16
"""Bytes of JSON for each array or object, at least; XGBoost's files have 26 and more."""
_COMMA_SHARE = 5
"""Bytes of JSON for each comma, at least; XGBoost's files have 6 and more, and a number takes up to 44 in memory."""
_SPARE = 4096
_MAX_TREE = 8 * 2**20
"""Characters of JSON of one tree, which is 130,000 nodes: a tree is read at once, into ten times its size."""
_WINDOW = _MAX_TREE + _MAX_TREE // 4
"""Characters in which the next trees are looked for."""
_JSON_STARTS = (b'{"', b"{\n", b"{ ")
_SPACE = re.compile(r"[ \t\r\n]*")
# Within a text, a quotation mark has a backslash before it, so that this can be nothing but a member's name.
_TREES = re.compile(r'"trees"[ \t\r\n]*:[ \t\r\n]*\[')
_PLACEHOLDER = "\0trees"
_DECODER = json.JSONDecoder()


class DocumentError(ValueError):
    """The bytes are no document within the bounds; the message says where or why."""


def read_document(data: bytes) -> dict[str, Any]:
    """Read a model file whose trees are dictionaries; raise ValueError or RecursionError for what is no document."""
    document = _json(data) if data[:2] in _JSON_STARTS else ubjson.loads(data)
    if not isinstance(document, dict):
        raise DocumentError(f"it is a {type(document).__name__}, no object")
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
    found = _TREES.search(text)
    if found is None:
        _check_envelope(len(text))
        return json.loads(text)
    # One tree at a time: the parser holds the interpreter until it is done, and the event loop with it.
    trees, end = _trees(text, found.end())
    begin = found.end() - 1
    _check_envelope(begin + len(text) - end)
    document = json.loads(text[:begin] + json.dumps(_PLACEHOLDER) + text[end:])
    with contextlib.suppress(LookupError, TypeError):
        model = document["learner"]["gradient_booster"]["model"]
        if model["trees"] == _PLACEHOLDER:
            model["trees"] = trees
    return document


def _check_envelope(size: int) -> None:
    if size > _MAX_ENVELOPE_BYTES:
        raise DocumentError(f"it has {size} bytes of JSON outside of its trees, at most {_MAX_ENVELOPE_BYTES} are read")


def _trees(text: str, position: int) -> tuple[list[Any], int]:
    """The elements of an array whose opening bracket ends at `position`, and where the array ends."""
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
            raise DocumentError(f"character {position}: a comma or a bracket belongs after tree {len(trees) - 1}")


def _with_arrays(tree: Any) -> Any:
    """The tree with its lists of numbers as arrays, which take a quarter of their memory."""
    if not isinstance(tree, dict):
        return tree
    return {
        name: np.asarray(value) if type(value) is list and value and set(map(type, value)) <= NUMBERS else value
        for name, value in tree.items()
    }


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position
