"""Boosted trees: reads an XGBoost model, checks all of it, and answers as XGBoost does."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from containers.churn_mme import ubjson

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

_LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
_IDENTITY = frozenset({"reg:squarederror"})
_ROWS_IN_PYTHON = 12
"""Up to so many rows, walking nested tuples takes less time than the fixed cost of NumPy's calls."""
_PAIRS_AT_ONCE = 2**18
"""Rows times trees in one pass of NumPy, at 20 bytes each: the largest request would take gigabytes in one."""
_BYTES_PER_NODE = 100
"""Memory of a node as a tuple with its numbers, and in the arrays: 82 by tracemalloc, and what malloc adds."""

Node = Any
"""A leaf's value, or (feature, threshold, child below it, child from it on, child of a missing value)."""


class ModelError(ValueError):
    """A model file cannot be served; the message says what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    """Arrays of one tree by node; a leaf has left == -1 and its value in `threshold`."""

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    default_left: npt.NDArray[np.bool_]


class TreeEnsemble:
    """A model in memory; safe to share between threads."""

    def __init__(self, trees: Sequence[_Tree], *, features: int, base_margin: float, logistic: bool) -> None:
        self.features = features
        self._base_margin, self._logistic = base_margin, logistic
        self._roots: list[Node] = [_nested(tree) for tree in trees]
        sizes = [len(tree.left) for tree in trees]
        starts = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
        self._starts = starts
        offsets = np.repeat(starts, sizes)
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        left = np.concatenate([tree.left for tree in trees])
        leaf = left == -1
        here = np.arange(len(left), dtype=np.int32)
        # A leaf leads to itself, so that rows which arrive early just stay.
        self._left = np.where(leaf, here, left + offsets).astype(np.int32)
        right = np.concatenate([tree.right for tree in trees])
        self._right = np.where(leaf, here, right + offsets).astype(np.int32)
        self._default_left = np.concatenate([tree.default_left for tree in trees])
        self._depth = max(_depth(root) for root in self._roots)
        self.size_bytes = _BYTES_PER_NODE * sum(sizes)

    def predict(self, rows: FloatArray) -> FloatArray:
        """One float32 per row of shape (rows, features); NaN is a missing value."""
        if len(rows) <= _ROWS_IN_PYTHON:
            margins = np.array([self._margin(row) for row in rows.tolist()], np.float64)
        else:
            step = max(1, _PAIRS_AT_ONCE // len(self._roots))
            blocks = [self._margins(rows[start : start + step]) for start in range(0, len(rows), step)]
            margins = np.concatenate(blocks)
        if self._logistic:
            # XGBoost bounds the exponent too, by what float32 holds.
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
        nodes = np.broadcast_to(self._starts, (len(rows), len(self._starts))).copy()
        at = np.arange(len(rows))[:, None]
        for _ in range(self._depth):
            values = rows[at, self._feature[nodes]]
            goes_left = (values < self._threshold[nodes]) | (np.isnan(values) & self._default_left[nodes])
            nodes = np.where(goes_left, self._left[nodes], self._right[nodes])
        margins: npt.NDArray[np.float64] = self._threshold[nodes].sum(axis=1, dtype=np.float64)
        return margins + self._base_margin


def read_model(data: bytes) -> TreeEnsemble:
    """The ensemble of an XGBoost model saved as UBJSON or JSON; nothing in it is taken on trust.

    Raises ModelError for damage and for what is not served here: boosters other than gbtree, categorical
    splits, several outputs, objectives other than binary:logistic, reg:logistic and reg:squarederror.
    """
    try:
        document = json.loads(data) if data[:2] in (b'{"', b"{\n", b"{ ") else ubjson.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the model is neither UBJSON nor JSON ({error}); save it with Booster.save_model of XGBoost 1.6 or later"
        ) from error
    try:
        return _ensemble(document["learner"])
    except ModelError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"the model lacks what XGBoost writes ({error!r}); save it again") from error


def _ensemble(learner: dict[str, Any]) -> TreeEnsemble:
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree":
        raise ModelError(f"the booster is {booster['name']!r}: only gbtree is served here; use container: builtin")
    if objective not in _LOGISTIC | _IDENTITY:
        served = ", ".join(sorted(_LOGISTIC | _IDENTITY))
        raise ModelError(f"the objective is {objective!r}: served are {served}; use container: builtin")
    parameters = learner["learner_model_param"]
    features = int(parameters["num_feature"])
    if int(parameters["num_class"]) > 1 or int(parameters.get("num_target", 1)) > 1:
        raise ModelError("the model has several outputs: one is served here; use container: builtin")
    documents = booster["model"]["trees"]
    if not documents:
        raise ModelError("the model has no tree: train at least one round")
    trees = [_tree(document, index, features) for index, document in enumerate(documents)]
    base = _base_score(parameters["base_score"])
    logistic = objective in _LOGISTIC
    if logistic and not 0 < base < 1:
        raise ModelError(f"base_score is {base}: {objective} needs one between 0 and 1")
    margin = math.log(base / (1 - base)) if logistic else base
    return TreeEnsemble(trees, features=features, base_margin=margin, logistic=logistic)


def _base_score(text: Any) -> float:
    """XGBoost writes `5E-1`, and from 3.1 on `[5E-1]`."""
    with np.errstate(over="ignore"):
        value = float(np.float32(float(str(text).strip("[]"))))
    if not math.isfinite(value):
        raise ModelError(f"base_score is {value}: it must be a finite number")
    return value


def _tree(document: dict[str, Any], index: int, features: int) -> _Tree:
    integers = ("left_children", "right_children", "split_indices", "default_left", "split_type")
    arrays = {name: np.asarray(document[name]) for name in (*integers, "split_conditions")}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or not shape[0]:
        raise ModelError(f"tree {index}: its arrays differ in length; the file is damaged, upload it again")
    for name, array in arrays.items():
        if array.dtype.kind not in ("biu" if name in integers else "biuf"):
            raise ModelError(f"tree {index}: {name} holds {array.dtype}; the file is damaged, upload it again")
    if arrays["split_type"].any():
        raise ModelError(f"tree {index} splits on categories: use container: builtin")
    left, right, feature = (arrays[name].astype(np.int32) for name in integers[:3])
    for name, array in zip(integers, (left, right, feature), strict=False):
        if (array != arrays[name]).any():
            raise ModelError(f"tree {index}: {name} is beyond 32 bits; the file is damaged, upload it again")
    with np.errstate(over="ignore"):
        threshold = arrays["split_conditions"].astype(np.float32)
    tree = _Tree(feature, threshold, left, right, arrays["default_left"].astype(np.bool_))
    _check(tree, index, features)
    return tree


def _check(tree: _Tree, index: int, features: int) -> None:
    """Every node that can be reached is reached once, tests a known feature, and ends in a finite leaf."""
    left, right = tree.left.tolist(), tree.right.tolist()
    seen = [False] * len(left)
    waiting = [0]
    while waiting:
        node = waiting.pop()
        if not 0 <= node < len(left) or seen[node]:
            raise ModelError(f"tree {index}: node {node} is no child; the file is damaged, upload it again")
        seen[node] = True
        if left[node] != -1:
            waiting += (left[node], right[node])
    inner = np.array(seen) & (tree.left != -1)
    if np.isnan(tree.threshold[seen]).any() or not np.isfinite(tree.threshold[np.array(seen) & ~inner]).all():
        raise ModelError(f"tree {index}: a leaf or a threshold is not a number; train the model again")
    used = tree.feature[inner]
    unknown = used[(used < 0) | (used >= features)]
    if len(unknown):
        raise ModelError(f"tree {index} reads feature {unknown[0]} of {features}; the file is damaged, upload it again")


def _nested(tree: _Tree) -> Node:
    left, right, feature = tree.left.tolist(), tree.right.tolist(), tree.feature.tolist()
    threshold, default_left = tree.threshold.tolist(), tree.default_left.tolist()
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] != -1:
            waiting += (left[node], right[node])
    made: dict[int, Node] = {}
    for node in reversed(order):
        if left[node] == -1:
            made[node] = threshold[node]
        else:
            below, above = made[left[node]], made[right[node]]
            made[node] = (feature[node], threshold[node], below, above, below if default_left[node] else above)
    return made[0]


def _depth(root: Node) -> int:
    depth, level = 0, [root]
    while level := [child for node in level if type(node) is tuple for child in node[2:4]]:
        depth += 1
    return depth
