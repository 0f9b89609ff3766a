"""Decode the rows of a CSV or JSON request into arrays.

A body of 6 MiB may hold hundreds of thousands of rows, and JSON takes up to forty times its size as Python objects. So
rows are counted before any is decoded, and then decoded block by block into arrays.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from containers.serving.errors import ServingError
from containers.tabular.features import FEATURES
from containers.tabular.forest import FloatArray

ORDER = ", ".join(FEATURES)
_BLOCK_BYTES = 64 * 1024
"""Text decoded at once. A longer row is refused: 16 numbers never take as much."""
_KNOWN = frozenset(FEATURES)
_EXAMPLE = '{"instances": [[' + ", ".join(["0"] * 3) + ', ...]]} or {"instances": [{"account_length": 0, ...}]}'
_LINE_END = re.compile(rb"\r\n|\r|\n")
_ROW_END = re.compile(rb"[\]}][ \t\r\n]*+,")
"""The end of one row before another. Rows contain no arrays or objects, and feature names contain no brackets."""
_ROW_INDEX = re.compile(r"\[(\d+)\]")

T = TypeVar("T")
_Row = list[float | None] | dict[str, float | None]


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instances: msgspec.Raw


_request = msgspec.json.Decoder(_Request)
_rows = msgspec.json.Decoder(list[_Row])


class CsvRows:
    """The rows of a CSV body; `count` is known before any is decoded. Raises ServingError 400 for an empty body."""

    field: str | None = None

    def __init__(self, body: bytes) -> None:
        if not body or body.isspace():
            raise ServingError(400, "no_rows", f"the body has no rows; send one per line: {ORDER}")
        # Blank lines at either end do not count as rows.
        self._body = body.strip(b"\r\n")
        self.count = 1 + self._body.count(b"\n") + self._body.count(b"\r") - self._body.count(b"\r\n")

    def blocks(self) -> Iterator[FloatArray]:
        """Yield arrays of shape (rows, features) in order; NaN is a missing value. Raises ServingError 400."""
        begin = row = 0
        while begin < len(self._body):
            end = _block_end(self._body, begin, _LINE_END, row)
            lines = _lines(self._body[begin:end])
            yield _as_floats([_values_of_line(line, row + index) for index, line in enumerate(lines)])
            begin, row = end, row + len(lines)


class JsonRows:
    """The rows of a JSON body; `count` is known before any is decoded. Raises ServingError 400 for an empty body."""

    field: str | None = "instances"

    def __init__(self, body: bytes) -> None:
        self._text = bytes(_decode(_request, body, "").instances)
        # A row that contains arrays or objects counts as several, and is refused when it is decoded.
        self.count = self._text.count(b"[") + self._text.count(b"{") - 1

    def blocks(self) -> Iterator[FloatArray]:
        """Yield arrays of shape (rows, features) in order; NaN is a missing value. Raises ServingError 400."""
        text, begin, row = self._text, 0, 0
        while begin < len(text):
            end = _block_end(text, begin, _ROW_END, row)
            # Drop the comma before the next block. Only the first and last blocks have the array's own brackets.
            block = text[begin:] if end == len(text) else text[begin : end - 1] + b"]"
            rows = _decode(_rows, b"[" + block if begin else block, "instances", row)
            if not rows:
                raise ServingError(400, "no_rows", f"instances is empty; send {_EXAMPLE}", "instances")
            yield _as_floats([_values_of_row(values, row + index) for index, values in enumerate(rows)])
            begin, row = end, row + len(rows)


def bad_value(row: int, column: int, given: str) -> ServingError:
    """Return the error for a value that is not a float32 number; row and column count from 0."""
    return ServingError(
        400,
        "not_a_number",
        f"row {row + 1}: {FEATURES[column]} is {given}; send a number, or leave it empty if it is missing",
        f"row {row + 1}.{FEATURES[column]}",
    )


def _block_end(text: bytes, begin: int, between: re.Pattern[bytes], row: int) -> int:
    """Return the end of the block at `begin`: after the first `between` past _BLOCK_BYTES, or the end of the text."""
    if len(text) - begin <= 2 * _BLOCK_BYTES:
        return len(text)
    match = between.search(text, begin + _BLOCK_BYTES, begin + 2 * _BLOCK_BYTES)
    if match is None:
        raise ServingError(
            400,
            "row_too_long",
            f"row {row + 1} or one after it takes more than {_BLOCK_BYTES} bytes; send {len(FEATURES)} values: {ORDER}",
        )
    return match.end()


def _lines(block: bytes) -> list[bytes]:
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError as error:
            raise ServingError(400, "invalid_csv", f"the body is not UTF-8 text ({error}); send {ORDER}") from error
    return block.splitlines()


def _values_of_line(line: bytes, row: int) -> list[float]:
    cells = line.split(b",")
    if len(cells) != len(FEATURES):
        raise _wrong_length(row, len(cells))
    try:
        # float() also accepts 1_000.
        if b"_" in line:
            raise ValueError
        return [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError:
        column = next(index for index, cell in enumerate(cells) if not _is_number(cell))
        raise bad_value(row, column, f"{cells[column].decode()[:40]!r}") from None


def _values_of_row(values: _Row, row: int) -> Sequence[float | None]:
    if isinstance(values, dict):
        if not values.keys() <= _KNOWN:
            unknown = min(set(values) - _KNOWN)
            where = f"instances[{row}]"
            raise ServingError(400, "unknown_feature", f"{where} has {unknown[:40]!r}; features are {ORDER}", where)
        return [values.get(name) for name in FEATURES]
    if len(values) != len(FEATURES):
        raise _wrong_length(row, len(values))
    return values


def _as_floats(rows: Sequence[Sequence[float | None]]) -> FloatArray:
    with np.errstate(over="ignore"):
        # NumPy converts None to NaN.
        return np.array(rows, np.float64).astype(np.float32)


def _decode(decoder: msgspec.json.Decoder[T], text: bytes, root: str, row: int = 0) -> T:
    """Decode JSON; the field of an error starts with `root`, and its row number counts from `row`."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        path = path.strip("`").removeprefix("$")
        path = _ROW_INDEX.sub(lambda match: f"[{int(match[1]) + row}]", path, count=1) if root else path
        field = (root + path).removeprefix(".") or None
        raise ServingError(400, "invalid_field", f"{message}; send {_EXAMPLE}", field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServingError(400, "invalid_json", f"the body is not JSON ({error}); send {_EXAMPLE}") from error


def _is_number(cell: bytes) -> bool:
    if b"_" in cell:
        return False
    try:
        float(cell.strip() or b"nan")
    except ValueError:
        return False
    return True


def _wrong_length(row: int, length: int) -> ServingError:
    return ServingError(
        400, "wrong_length", f"row {row + 1} has {length} values; send {len(FEATURES)}: {ORDER}", f"row {row + 1}"
    )
