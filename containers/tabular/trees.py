"""Boosted trees: read an XGBoost model, check all of it, and predict as XGBoost does."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from containers.tabular.documents import read_document
from containers.tabular.forest import FloatArray, Forest, IntArray, ModelError, Node, read_forest

_LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
_IDENTITY = frozenset({"reg:squarederror"})
_TRAIN = "train and save the model again"
_ROWS_IN_PYTHON = 12
"""Most rows for which walking nested tuples is faster than NumPy, whose calls have a fixed cost."""
_PAIRS_AT_ONCE = 2**18
"""Rows times trees in one NumPy pass, at 20 bytes each; in a single pass, the largest request would take gigabytes."""
_BYTES_PER_NODE = 100
"""Memory of a node as a tuple of numbers and in the arrays: 82 bytes by tracemalloc, plus the overhead of malloc."""


class TreeEnsemble:
    """A model in memory; safe to share between threads."""

    def __init__(self, forest: Forest, *, features: int, base_margin: float, logistic: bool) -> None:
        self._roots: list[Node] = []
        self.features = features
        self._base_margin, self._logistic = base_margin, logistic
        self._roots = forest.nested()
        self._forest, self._depth = forest, forest.depth
        self.size_bytes = _BYTES_PER_NODE * len(forest.leaf)

    def __del__(self) -> None:
        # One tree at a time: the GIL is held while an object is freed together with everything only it refers to.
        while self._roots:
            self._roots.pop()

    @property
    def steps_per_row(self) -> int:
        """Return the most nodes that a row visits; the time of a prediction grows with it."""
        return max(1, len(self._roots) * self._depth)

    def predict(self, rows: FloatArray) -> FloatArray:
        """Return one float32 per row, for rows of shape (rows, features); NaN is a missing value."""
        if len(rows) <= _ROWS_IN_PYTHON:
            margins = np.array([self._margin(row) for row in rows.tolist()], np.float64)
        else:
            step = max(1, _PAIRS_AT_ONCE // len(self._roots))
            blocks = [self._margins(rows[start : start + step]) for start in range(0, len(rows), step)]
            margins = np.concatenate(blocks)
        if self._logistic:
            # XGBoost also clips the exponent at the float32 limit.
            margins = 1 / (1 + np.exp(np.minimum(-margins, 88.7)))
        return margins.astype(np.float32)

    def _margin(self, row: list[float]) -> float:
        total = self._base_margin
        for node in self._roots:
            while type(node) is tuple:
                feature, threshold, below, above, missing = node
                value = row[feature]
                node = below if value < threshold else above if value >= threshold else missing
            total += node
        return total

    def _margins(self, rows: FloatArray) -> npt.NDArray[np.float64]:
        forest = self._forest
        nodes = np.broadcast_to(forest.starts, (len(rows), len(forest.starts))).copy()
        at = np.arange(len(rows))[:, None]
        for _ in range(self._depth):
            values = rows[at, forest.feature[nodes]]
            goes_left = (values < forest.threshold[nodes]) | (np.isnan(values) & forest.default_left[nodes])
            nodes = np.where(goes_left, forest.left[nodes], forest.right[nodes])
        margins: npt.NDArray[np.float64] = forest.threshold[nodes].sum(axis=1, dtype=np.float64)
        return margins + self._base_margin


def read_model(data: bytes, names: Sequence[str] = ()) -> TreeEnsemble:
    """Read an XGBoost model saved as UBJSON or JSON, and check everything in it.

    Of a model that training stopped early, only the rounds up to `best_iteration` are used, as the built-in container
    and XGBoost's scikit-learn classes do.

    names: names of the columns that `predict` gets. A model that was trained on the same names in another order reads
        its own columns; one without names reads them in this order. Empty for the model's own order.
    Raises ModelError for damage and for unsupported models: boosters other than gbtree, categorical splits, several
    outputs, and objectives other than binary:logistic, reg:logistic and reg:squarederror.
    """
    try:
        document = read_document(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the model is neither UBJSON nor JSON ({error}); save it by XGBoost 1.6 or later under a name that "
            'ends in .ubj or .json, such as booster.save_model("model.ubj"): other names can give an older format'
        ) from error
    try:
        return _ensemble(document["learner"], len(data), names)
    except ModelError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"the model lacks a part that XGBoost writes ({error!r}); save it again") from error


def _ensemble(learner: dict[str, Any], file_bytes: int, names: Sequence[str]) -> TreeEnsemble:
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree":
        raise ModelError(f"the booster is {booster['name']!r}: only gbtree is supported; use container: builtin")
    if objective not in _LOGISTIC | _IDENTITY:
        served = ", ".join(sorted(_LOGISTIC | _IDENTITY))
        raise ModelError(f"the objective is {objective!r}: only {served} are supported; use container: builtin")
    parameters = learner["learner_model_param"]
    features = int(parameters["num_feature"])
    if int(parameters["num_class"]) > 1 or int(parameters.get("num_target", 1)) > 1:
        raise ModelError("the model has several outputs: only one is supported; use container: builtin")
    forest = read_forest(_used_trees(learner), features, file_bytes)
    if names and (columns := _columns(learner.get("feature_names"), features, names)) is not None:
        known = (forest.feature >= 0) & (forest.feature < features)
        forest = replace(forest, feature=np.where(known, columns[np.where(known, forest.feature, 0)], forest.feature))
    base = _base_score(parameters["base_score"])
    logistic = objective in _LOGISTIC
    if logistic and not 0 < base < 1:
        raise ModelError(f"base_score is {base}: {objective} needs a value between 0 and 1; train the model again")
    margin = math.log(base / (1 - base)) if logistic else base
    return TreeEnsemble(forest, features=features, base_margin=margin, logistic=logistic)


def _used_trees(learner: dict[str, Any]) -> list[Any]:
    """Return the trees of the rounds up to the best one, or all trees of a model without one."""
    model = learner["gradient_booster"]["model"]
    trees: list[Any] = model["trees"]
    best = (learner.get("attributes") or {}).get("best_iteration")
    if best is None:
        return trees
    if not re.fullmatch(r"\d{1,9}", str(best)):
        raise ModelError(f"best_iteration is {str(best)[:20]!r}: it must be a round; train the model again")
    per_round = int(model["gbtree_model_param"].get("num_parallel_tree") or 1)
    used = (int(best) + 1) * per_round
    if per_round < 1 or used > len(trees):
        raise ModelError(
            f"best_iteration is {best}, and the model has {len(trees)} trees, {per_round} a round: {_TRAIN}"
        )
    return trees[:used]


def _columns(given: Any, features: int, names: Sequence[str]) -> IntArray | None:
    """Return the position in `names` of each of the model's features; None if it has no names of its own."""
    # A matrix without names gets f0, f1, ... in some versions of XGBoost.
    if not given or (isinstance(given, list) and given == [f"f{index}" for index in range(features)]):
        return None
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given) or len(given) != features:
        raise ModelError(f"feature_names must be {features} names: {_TRAIN}")
    positions = {name: index for index, name in enumerate(names)}
    problems = [f"it reads {each[:60]!r}, which is not a column here" for each in given if each not in positions]
    problems += [f"it does not read {each!r}" for each in names if each not in given]
    problems += ["a name appears twice"] if len(set(given)) != len(given) else []
    if problems:
        raise ModelError(
            f"the model was trained on other features: {problems[0]}; train it on these, in any order: "
            f"{', '.join(names)}"
        )
    return np.array([positions[each] for each in given], np.int32)


def _base_score(text: Any) -> float:
    """Parse the base score, which XGBoost writes as `5E-1`, or from version 3.1 as `[5E-1]`."""
    with np.errstate(over="ignore"):
        value = float(np.float32(float(str(text).strip("[]"))))
    if not math.isfinite(value):
        raise ModelError(f"base_score is {value}: it must be a finite number; train the model again")
    return value
