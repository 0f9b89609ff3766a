"""Read a recipe's churn table, check it, and convert it to features."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.exceptions
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from containers.tabular.features import AREA_CODES, FEATURES
from model_build.errors import BuildError
from model_build.tabular.generate import generate
from model_build.tabular.recipe import FileSource, GeneratedSource, S3Source
from model_build.tabular.schema import AREA_CODE, CHURN, COLUMNS, NO, STATE, STATES, YES, Column, column_key

_TABLE_FILE = "table.npz"


@dataclass(frozen=True, slots=True)
class Source:
    """A table before parsing.

    name: description of the source.
    content: the table in CSV.
    sha256: hash of the content, in hex.
    """

    name: str
    content: bytes
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Customers, each with a row of FEATURES, a label (1 for a customer who left) and a state."""

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    states: NDArray[np.str_]

    @property
    def other_area_codes(self) -> int:
        """Return the number of customers in none of AREA_CODES, whose area code features are all 0."""
        columns = [FEATURES.index(f"area_code_{code}") for code in AREA_CODES]
        return int((self.features[:, columns].sum(axis=1) == 0).sum())

    def save(self, folder: Path) -> None:
        """Write the table into a folder."""
        np.savez(folder / _TABLE_FILE, features=self.features, labels=self.labels, states=self.states)

    @classmethod
    def load(cls, folder: Path) -> "Table":
        """Read a table written by `save`."""
        with np.load(folder / _TABLE_FILE, allow_pickle=False) as arrays:
            return cls(arrays["features"], arrays["labels"], arrays["states"])


def describe(source: GeneratedSource | S3Source | FileSource) -> str:
    """Return a short description of a table's source."""
    match source:
        case GeneratedSource():
            return f"{source.customers} generated customers, seed {source.seed}"
        case S3Source():
            return source.url
        case FileSource():
            return source.path


def fetch(source: GeneratedSource | S3Source | FileSource) -> Source:
    """Read or generate a table's bytes.

    Raises BuildError for a file or an object that cannot be read.
    """
    match source:
        case GeneratedSource():
            content = generate(source)
        case S3Source():
            content = _object(source.url)
        case FileSource():
            content = _file(source.path)
    return Source(describe(source), content, hashlib.sha256(content).hexdigest())


def parse(source: Source) -> Table:
    """Check a table in CSV and convert it to features.

    Columns may be in any order, and rows may repeat. For an area code that is not in AREA_CODES, all area code features
    are 0. Raises BuildError with the column, the value and the fix.
    """
    frame = _with_known_columns(source.name, _read(source))
    if frame.empty:
        raise BuildError(f"{source.name} has a header but no rows; provide a table with customers of every state")
    values = {column.key: _values(source.name, column, frame[column.key]) for column in COLUMNS}
    labels = values[CHURN.key].astype(np.int8)
    if len(np.unique(labels)) == 1:
        raise BuildError(
            f"{source.name}: column {CHURN.name!r} is {bool(labels[0])} in all {len(labels)} rows; "
            "a model needs customers who left and customers who stayed"
        )
    by_feature = {column.feature: values[column.key] for column in COLUMNS if column.feature is not None}
    by_feature |= {f"area_code_{code}": values[AREA_CODE.key] == code for code in AREA_CODES}
    features = np.column_stack([by_feature[name] for name in FEATURES]).astype(np.float32)
    return Table(features, labels, frame[STATE.key].to_numpy(dtype=np.str_))


def _object(url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    try:
        return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise BuildError(
            f"source.url: {url!r} cannot be read: {error}; check that the object exists and that the build's role "
            "has s3:GetObject on it, or use a source of kind 'generated'"
        ) from error


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BuildError(
            f"source.path: {path!r} cannot be read: {error.strerror}; set the path of a churn table in CSV, "
            "or use a source of kind 'generated'"
        ) from error


def _read(source: Source) -> pd.DataFrame:
    try:
        text = source.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{source.name} is not UTF-8: byte {error.start} is 0x{source.content[error.start]:02x}; "
            "save the table as CSV in UTF-8"
        ) from error
    if not text.strip():
        raise BuildError(f"{source.name} is empty; provide a CSV with a header and customers of every state")
    try:
        with warnings.catch_warnings():
            # For a row that is too long, pandas drops the extra cells with only a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Read everything as text: pandas' type inference would hide which cell is wrong.
            frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise BuildError(
            f"{source.name} cannot be read as CSV: {str(error).strip()}; "
            "every row must have the same number of cells as the header, separated by commas"
        ) from error
    return frame


def _with_known_columns(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    known = {column.key: column.name for column in COLUMNS}
    given: dict[str, list[str]] = {}
    for column in frame.columns:
        given.setdefault(column_key(column), []).append(column)
    expected = f"the columns must be {', '.join(known.values())} (case, spaces and punctuation do not matter)"
    if missing := [spelled for key, spelled in known.items() if key not in given]:
        raise BuildError(f"{name}: missing columns: {', '.join(missing)}; it has {', '.join(frame)}; {expected}")
    if extra := [spelled for key, spellings in given.items() if key not in known for spelled in spellings]:
        raise BuildError(f"{name}: unknown columns: {', '.join(extra)}; remove them: {expected}")
    if twice := [" and ".join(map(repr, spellings)) for spellings in given.values() if len(spellings) > 1]:
        raise BuildError(f"{name}: duplicate columns: {', '.join(twice)}; keep one of each")
    frame = frame.rename(columns=column_key).fillna("")
    return frame.apply(lambda cells: cells.str.strip())


def _values(name: str, column: Column, cells: pd.Series) -> NDArray[np.float64]:
    _refuse(name, column, cells, (cells == "").to_numpy(), "is empty", "fill it in or remove the row")
    match column.kind:
        case "state":
            _refuse_unknown_states(name, column, cells)
            return np.zeros(0)
        case "text":
            return np.zeros(0)
        case "yes_no":
            words = cells.str.lower()
            unknown = ~words.isin(YES + NO).to_numpy()
            accepted = "True./False., true/false, yes/no and 1/0"
            _refuse(name, column, cells, unknown, "is neither yes nor no", f"write it as one of {accepted}")
            flags: NDArray[np.float64] = words.isin(YES).to_numpy().astype(np.float64)
            return flags
        case "number" | "whole":
            numbers: NDArray[np.float64] = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
            # Features are 32-bit floats: nan, inf and numbers that do not fit are refused.
            bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
            _refuse(name, column, cells, bad, "is not a number", "write it in digits with a decimal point")
            if column.kind == "whole":
                broken = numbers != np.floor(numbers)
                _refuse(name, column, cells, broken, "is not a whole number", "check that the columns are not shifted")
            return numbers


def _refuse(name: str, column: Column, cells: pd.Series, bad: NDArray[np.bool_], problem: str, remedy: str) -> None:
    if not bad.any():
        return
    first = int(bad.argmax())
    more = int(bad.sum()) - 1
    raise BuildError(
        f"{name}: column {column.name!r}, row {first + 1} after the header: {cells.iloc[first]!r} {problem}"
        f"{f' (and {more} more rows)' if more else ''}; {remedy}"
    )


def _refuse_unknown_states(name: str, column: Column, cells: pd.Series) -> None:
    if unknown := sorted(set(cells) - set(STATES)):
        raise BuildError(
            f"{name}: column {column.name!r} has unknown states: {', '.join(map(repr, unknown))}; "
            f"use one of the {len(STATES)} two-letter codes in capitals: {', '.join(STATES)}"
        )
