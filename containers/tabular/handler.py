"""Requests and responses of a churn model: CSV or JSON in, CSV or JSON out."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from containers.serving.app import JSON, Answer, Invocation, RunOnThread
from containers.serving.bodies import without_mark
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.serving.multi_model import ModelLoadError, entries
from containers.tabular.features import FEATURES, MODEL_FILE
from containers.tabular.forest import FloatArray, ModelError
from containers.tabular.rows import CsvRows, JsonRows, bad_value
from containers.tabular.trees import TreeEnsemble, read_model

CSV = "text/csv"
MAX_MODEL_BYTES = 64 * 1024 * 1024
MAX_STEPS = 2**28
"""Most nodes that the rows of one request may visit: about eight seconds of one core. Most models visit 500 to 1,000
nodes per row, so the size of the response limits their requests first."""
_INLINE_STEPS = 2**17
"""Most nodes that a request may visit on the event loop, at no more than 50 ns each; larger requests go to a thread."""
_MACOS = "__MACOSX"
"""Folder that macOS adds to archives, for its own metadata."""
_LONGEST_SCORE = len("-1.1754943508222875e-38")
"""Most characters of a float32, converted to float64 and written in its shortest form."""
_MAX_ROWS = {
    True: (MAX_BODY_BYTES - len('{"predictions":[]}')) // (len('{"score":},') + _LONGEST_SCORE),
    False: MAX_BODY_BYTES // (len(",") + _LONGEST_SCORE),
}
"""Most rows whose scores always fit into a response, by whether it is JSON."""


class ChurnModel:
    """One state's model in memory."""

    def __init__(self, trees: TreeEnsemble) -> None:
        self._trees = trees
        self._steps = trees.steps_per_row
        self._max_rows = {as_json: min(rows, max(1, MAX_STEPS // self._steps)) for as_json, rows in _MAX_ROWS.items()}
        self.size_bytes = trees.size_bytes

    def invoke(self, invocation: Invocation) -> Answer:
        """Return one probability of churn per row."""
        as_json = _answers_json(invocation)
        rows = (CsvRows if invocation.content_type == CSV else JsonRows)(without_mark(invocation.body))
        if rows.count > self._max_rows[as_json]:
            raise _too_many_rows(rows, self._max_rows[as_json])
        if invocation.on_event_loop and rows.count * self._steps > _INLINE_STEPS:
            raise RunOnThread
        # Read all rows before computing any, so a request with a bad last row costs little.
        blocks = list(rows.blocks())
        _check_finite(blocks)
        scores: list[list[float]] = []
        for block in blocks:
            invocation.cancellation.check()
            scores.append(self._trees.predict(block).tolist())
        if as_json:
            objects = (msgspec.json.encode([{"score": score} for score in block])[1:-1] for block in scores)
            return Answer(b'{"predictions":[' + b",".join(objects) + b"]}")
        # Joined with commas for any number of rows, as the built-in container does.
        return Answer(",".join(",".join(map(str, block)) for block in scores).encode(), "text/csv; charset=utf-8")


def _too_many_rows(rows: CsvRows | JsonRows, most: int) -> ServingError:
    return ServingError(
        413,
        "too_many_rows",
        f"the request has {rows.count} rows; this model takes at most {most} per request, for a response "
        f"of up to {MAX_BODY_BYTES} bytes; split it",
        rows.field,
    )


def _check_finite(blocks: Sequence[FloatArray]) -> None:
    first = 0
    for block in blocks:
        infinite = np.isinf(block)
        if infinite.any():
            row, column = divmod(int(infinite.argmax()), len(FEATURES))
            raise bad_value(first + row, column, "infinite, or too large for float32")
        first += len(block)


def load_model(folder: Path) -> ChurnModel:
    """Load the single model file in an extracted archive; raises ModelLoadError."""
    try:
        files = [path for path in sorted(entries(folder)) if _counts(path, folder)]
    except OSError as error:
        raise ModelLoadError(f"{folder} cannot be read: {error.strerror}") from error
    if not folder.is_dir():
        raise ModelLoadError(f"{folder} is not a folder: the url must be that of an extracted archive")
    if len(files) != 1 or files[0].is_symlink() or not files[0].is_file():
        names = ", ".join(path.name for path in files[:5]) or "nothing"
        raise ModelLoadError(f"the archive must hold one model file, such as {MODEL_FILE}; it holds {names}")
    size = files[0].stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelLoadError(f"{files[0].name} has {size} bytes; at most {MAX_MODEL_BYTES} are read")
    try:
        trees = read_model(files[0].read_bytes(), FEATURES)
    except (ModelError, OSError) as error:
        raise ModelLoadError(f"{files[0].name}: {error}") from error
    if trees.features != len(FEATURES):
        raise ModelLoadError(f"{files[0].name} reads {trees.features} features, churn models read {len(FEATURES)}")
    return ChurnModel(trees)


def _counts(path: Path, folder: Path) -> bool:
    """Return whether a path is a file of its own: no folder, and none of what macOS and editors hide in archives.

    AWS's container ignores hidden files too. A symbolic link counts, whatever its name, and is refused.
    """
    if path.is_symlink():
        return True
    hidden = any(part.startswith(".") or part == _MACOS for part in path.relative_to(folder).parts)
    return not hidden and not path.is_dir()


def _answers_json(invocation: Invocation) -> bool:
    """Return whether to respond in JSON; without a preference, the response has the request's type."""
    accepted = [part.partition(";")[0].strip() for part in invocation.accept.split(",")]
    for media_type in accepted:
        if media_type in ("*/*", ""):
            return invocation.content_type == JSON
        if media_type in (JSON, CSV, "application/*", "text/*"):
            return media_type in (JSON, "application/*")
    raise ServingError(
        406, "not_acceptable", f"Accept is {invocation.accept!r}; this model returns {CSV} and {JSON}", "Accept"
    )
