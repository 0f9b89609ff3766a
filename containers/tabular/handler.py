"""Requests and answers of a churn model: CSV or JSON in, CSV or JSON out."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from containers.serving.app import JSON, Answer, Invocation, RunOnThread
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
"""Nodes that the rows of one request may visit: about eight seconds of one core. The trees of most models visit 500 to
1,000 for a row, so that the response's size bounds their requests first."""
_INLINE_STEPS = 2**17
"""Nodes that a request may visit on the event loop, at 50 ns each at the most; larger ones go to a thread."""
_LONGEST_SCORE = len("-1.1754943508222875e-38")
"""Characters of a float32 as the float64 that it equals, by its shortest representation."""
_MAX_ROWS = {
    True: (MAX_BODY_BYTES - len('{"predictions":[]}')) // (len('{"score":},') + _LONGEST_SCORE),
    False: MAX_BODY_BYTES // (len(",") + _LONGEST_SCORE),
}
"""Rows whose scores always fit a response, by whether it is JSON."""


class ChurnModel:
    """One state's model in memory."""

    def __init__(self, trees: TreeEnsemble) -> None:
        self._trees = trees
        self._steps = trees.steps_per_row
        self._max_rows = {as_json: min(rows, max(1, MAX_STEPS // self._steps)) for as_json, rows in _MAX_ROWS.items()}
        self.size_bytes = trees.size_bytes

    def invoke(self, invocation: Invocation) -> Answer:
        """One probability of churn per row."""
        as_json = _answers_json(invocation)
        rows = (CsvRows if invocation.content_type == CSV else JsonRows)(invocation.body)
        if rows.count > self._max_rows[as_json]:
            raise _too_many_rows(rows, self._max_rows[as_json])
        if invocation.on_event_loop and rows.count * self._steps > _INLINE_STEPS:
            raise RunOnThread
        # All rows are read before the first is computed: a request with a bad row at its end costs little.
        blocks = list(rows.blocks())
        _check_finite(blocks)
        scores: list[list[float]] = []
        for block in blocks:
            invocation.cancellation.check()
            scores.append(self._trees.predict(block).tolist())
        if as_json:
            objects = (msgspec.json.encode([{"score": score} for score in block])[1:-1] for block in scores)
            return Answer(b'{"predictions":[' + b",".join(objects) + b"]}")
        # Comma-joined whatever the number of rows, as the built-in container answers.
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
            raise bad_value(first + row, column, "infinite, or beyond what float32 holds")
        first += len(block)


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
