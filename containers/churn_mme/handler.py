"""Requests and answers of a churn model: CSV or JSON in, CSV or JSON out."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from containers.churn_mme.features import FEATURES, MODEL_FILE
from containers.churn_mme.trees import FloatArray, ModelError, TreeEnsemble, read_model
from containers.serving.app import JSON, Answer, Invocation
from containers.serving.errors import ServingError
from containers.serving.multi_model import ModelLoadError, entries

CSV = "text/csv"
MAX_MODEL_BYTES = 64 * 1024 * 1024
_ORDER = ", ".join(FEATURES)
_KNOWN = frozenset(FEATURES)


class _Instances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instances: list[list[float | None] | dict[str, float | None]]


class ChurnModel:
    """One state's model in memory."""

    def __init__(self, trees: TreeEnsemble) -> None:
        self._trees = trees
        self.size_bytes = trees.size_bytes

    def invoke(self, invocation: Invocation) -> Answer:
        """One probability of churn per row."""
        as_json = _answers_json(invocation)
        decode = _rows_of_csv if invocation.content_type == CSV else _rows_of_json
        rows = decode(invocation.body)
        if np.isinf(rows).any():
            row, column = (int(index) for index in np.argwhere(np.isinf(rows))[0])
            raise _bad_value(row, column, "infinite, or beyond what float32 holds")
        scores: list[float] = self._trees.predict(rows).tolist()
        if as_json:
            return Answer(msgspec.json.encode({"predictions": [{"score": score} for score in scores]}))
        # Comma-joined whatever the number of rows, as the built-in container answers.
        return Answer(",".join(map(str, scores)).encode(), "text/csv; charset=utf-8")


def load_model(folder: Path) -> ChurnModel:
    """Reads the one model file in an extracted archive; raises ModelLoadError."""
    try:
        files = [path for path in sorted(entries(folder)) if not path.is_dir() or path.is_symlink()]
    except OSError as error:
        raise ModelLoadError(f"{folder} cannot be read: {error.strerror}") from error
    if not folder.is_dir():
        raise ModelLoadError(f"{folder} is no folder: the url must be that of an extracted archive")
    if len(files) != 1 or files[0].is_symlink() or not files[0].is_file():
        found = ", ".join(path.name for path in files[:5]) or "nothing"
        raise ModelLoadError(f"the archive must hold one model file, such as {MODEL_FILE}; it holds {found}")
    size = files[0].stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelLoadError(f"{files[0].name} has {size} bytes; at most {MAX_MODEL_BYTES} are read")
    try:
        trees = read_model(files[0].read_bytes())
    except (ModelError, OSError) as error:
        raise ModelLoadError(f"{files[0].name}: {error}") from error
    if trees.features != len(FEATURES):
        raise ModelLoadError(f"{files[0].name} reads {trees.features} features, churn models read {len(FEATURES)}")
    return ChurnModel(trees)


def _answers_json(invocation: Invocation) -> bool:
    """Whether to answer in JSON; without a wish, the answer has the request's type."""
    wishes = [part.partition(";")[0].strip() for part in invocation.accept.split(",")]
    for wish in wishes:
        if wish in ("*/*", ""):
            return invocation.content_type == JSON
        if wish in (JSON, CSV, "application/*", "text/*"):
            return wish in (JSON, "application/*")
    raise ServingError(
        406, "not_acceptable", f"Accept is {invocation.accept!r}; this model answers {CSV} and {JSON}", "Accept"
    )


def _rows_of_csv(body: bytes) -> FloatArray:
    try:
        lines = body.decode().strip("\r\n").splitlines()
    except UnicodeDecodeError as error:
        raise ServingError(400, "invalid_csv", f"the body is not UTF-8 text ({error}); send {_ORDER}") from error
    if not lines or not any(line.strip() for line in lines):
        raise ServingError(400, "no_rows", f"the body has no row; send one per line: {_ORDER}")
    rows = []
    for number, line in enumerate(lines):
        cells = line.split(",")
        if len(cells) != len(FEATURES):
            raise _wrong_length(number, len(cells))
        try:
            # float() also takes 1_000, and digits of any script.
            if "_" in line or not line.isascii():
                raise ValueError
            rows.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError:
            column = next(index for index, cell in enumerate(cells) if not _is_number(cell))
            raise _bad_value(number, column, f"{cells[column][:40]!r}") from None
    return _as_floats(rows)


def _rows_of_json(body: bytes) -> FloatArray:
    example = '{"instances": [[' + ", ".join(["0"] * 3) + ', ...]]} or {"instances": [{"account_length": 0, ...}]}'
    try:
        instances = msgspec.json.decode(body, type=_Instances).instances
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".") or None
        raise ServingError(400, "invalid_field", f"{message}; send {example}", field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServingError(400, "invalid_json", f"the body is not JSON ({error}); send {example}") from error
    if not instances:
        raise ServingError(400, "no_rows", f"instances is empty; send {example}", "instances")
    rows = []
    for number, instance in enumerate(instances):
        if isinstance(instance, dict):
            unknown = sorted(set(instance) - _KNOWN)
            if unknown:
                raise ServingError(
                    400,
                    "unknown_feature",
                    f"instances[{number}] has {unknown[0][:40]!r}; features are {_ORDER}",
                    f"instances[{number}]",
                )
            rows.append([_or_missing(instance.get(name)) for name in FEATURES])
        elif len(instance) != len(FEATURES):
            raise _wrong_length(number, len(instance))
        else:
            rows.append([_or_missing(value) for value in instance])
    return _as_floats(rows)


def _as_floats(rows: Sequence[Sequence[float]]) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.array(rows, np.float64).astype(np.float32)


def _or_missing(value: float | None) -> float:
    return float("nan") if value is None else value


def _is_number(cell: str) -> bool:
    if "_" in cell or not cell.isascii():
        return False
    try:
        float(cell.strip() or "nan")
    except ValueError:
        return False
    return True


def _wrong_length(row: int, length: int) -> ServingError:
    return ServingError(
        400, "wrong_length", f"row {row + 1} has {length} values; send {len(FEATURES)}: {_ORDER}", f"row {row + 1}"
    )


def _bad_value(row: int, column: int, given: str) -> ServingError:
    return ServingError(
        400,
        "not_a_number",
        f"row {row + 1}: {FEATURES[column]} is {given}; send a number, or nothing where it is missing",
        f"row {row + 1}.{FEATURES[column]}",
    )
