"""The trees of a model as arrays of all its nodes, checked before they are used.

All code here works on whole arrays or on one level of all trees at a time. On a large model, a Python loop over nodes
would hold the GIL for seconds and block the event loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

MAX_DEPTH = 1024
"""Most splits between a root and a leaf. Real models have up to a few hundred; a request's time grows with them."""
MAX_NODES = 4 * 2**20
"""Most nodes of all trees: twice as many as XGBoost's UBJSON (34 bytes each) fits into the largest accepted file."""
_NODE_BYTES = 14
"""Fewest file bytes per node. XGBoost writes 34 in UBJSON and more in JSON; in memory a node takes 100."""
_SPARE_NODES = 4096
_NODES_AT_ONCE = 2**16
"""Nodes converted to Python objects in one step, which bounds the memory of the intermediate lists."""
_INTEGERS = ("left_children", "right_children", "split_indices", "default_left", "split_type")
_NAMES = (*_INTEGERS, "split_conditions")
NUMBERS = frozenset({bool, int, float})
"""Number types that a list may hold."""
_DAMAGED = "the file is damaged, upload it again"

Node = Any
"""A leaf's value, or (feature, threshold, child below the threshold, child from it on, child for a missing value)."""


class ModelError(ValueError):
    """A model file that cannot be served; the message gives the problem and the fix."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Arrays with one element per node, one tree after the other; children are positions in these arrays.

    A leaf is its own child, so rows that reach it early stay there. Its value is in `threshold`.

    starts: root of each tree.
    levels: nodes by distance from the root, without nodes that no row reaches.
    """

    starts: IntArray
    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    default_left: BoolArray
    leaf: BoolArray
    levels: tuple[IntArray, ...]

    @property
    def depth(self) -> int:
        """Return the splits between a root and its farthest leaf."""
        return len(self.levels) - 1

    def nested(self) -> list[Node]:
        """Return every tree as nested tuples, which Python walks faster than arrays."""
        nested: list[Node] = [None] * len(self.leaf)
        for level in reversed(self.levels):
            for begin in range(0, len(level), _NODES_AT_ONCE):
                self._nest(level[begin : begin + _NODES_AT_ONCE], nested)
        return [nested[start] for start in self.starts.tolist()]

    def _nest(self, nodes: IntArray, nested: list[Node]) -> None:
        leaves = nodes[self.leaf[nodes]]
        for node, value in zip(leaves.tolist(), self.threshold[leaves].tolist(), strict=True):
            nested[node] = value
        inner = nodes[~self.leaf[nodes]]
        arrays = (inner, *(array[inner] for array in (self.feature, self.threshold, self.left, self.right)))
        lists = (array.tolist() for array in (*arrays, self.default_left[inner]))
        for node, feature, threshold, left, right, default_left in zip(*lists, strict=True):
            below, above = nested[left], nested[right]
            nested[node] = (feature, threshold, below, above, below if default_left else above)


def read_forest(trees: Iterable[Mapping[str, Any]], features: int, file_bytes: int) -> Forest:
    """Check the trees of a document and return them as one forest.

    Each reachable node is reached by one path, tests one of `features`, and leads to finite leaves. Otherwise raises
    ModelError that names the tree.

    features: number of features.
    file_bytes: size of the file, which bounds the number of nodes.
    """
    columns, sizes = _columns(trees, min(MAX_NODES, file_bytes // _NODE_BYTES + _SPARE_NODES))
    starts = np.cumsum([0, *sizes[:-1]]).astype(np.int32)

    def tree_of(node: Any) -> int:
        return int(np.searchsorted(starts, node, side="right")) - 1

    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    columns.clear()
    if (categorical := joined.pop("split_type")).any():
        raise ModelError(
            f"tree {tree_of(categorical.argmax())} has categorical splits, which are not supported: use "
            "container: builtin"
        )
    left, right, feature = (joined[name].astype(np.int32) for name in _INTEGERS[:3])
    for name, array in zip(_INTEGERS, (left, right, feature), strict=False):
        if (wrong := array != joined[name]).any():
            raise ModelError(f"tree {tree_of(wrong.argmax())}: {name} does not fit into 32 bits; {_DAMAGED}")
    with np.errstate(over="ignore"):
        threshold = joined["split_conditions"].astype(np.float32)
    default_left = joined["default_left"].astype(np.bool_)
    leaf = left == -1
    begins, counts = (np.repeat(array.astype(np.int32), sizes) for array in (starts, np.array(sizes)))
    levels = _levels(starts, left, right, begins, counts)
    reached = np.zeros(len(leaf), np.bool_)
    for level in levels:
        reached[level] = True
    # A threshold may be infinite, but a leaf may not.
    wrong = reached & np.where(leaf, ~np.isfinite(threshold), np.isnan(threshold))
    if wrong.any():
        raise ModelError(
            f"tree {tree_of(wrong.argmax())}: a leaf or a threshold is not a number; train the model again"
        )
    wrong = reached & ~leaf & ((feature < 0) | (feature >= features))
    if wrong.any():
        node = wrong.argmax()
        raise ModelError(f"tree {tree_of(node)} reads feature {feature[node]} of {features}; {_DAMAGED}")
    here = np.arange(len(leaf), dtype=np.int32)
    left, right = (np.where(leaf | ~reached, here, child + begins) for child in (left, right))
    return Forest(starts, feature, threshold, left, right, default_left, leaf, tuple(levels))


def _columns(trees: Iterable[Mapping[str, Any]], max_nodes: int) -> tuple[dict[str, list[npt.NDArray[Any]]], list[int]]:
    """Return the arrays of all trees by name, and the number of nodes of each tree."""
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _NAMES}
    sizes: list[int] = []
    total = 0
    for index, document in enumerate(trees):
        arrays = [_array(document[name], name, index) for name in _NAMES]
        size = len(arrays[0])
        if not size or any(len(array) != size for array in arrays):
            raise _differ(index)
        for name, array in zip(_NAMES, arrays, strict=True):
            # uint64 has no common integer type with the signed types, and only larger indices need it.
            if array.dtype.kind not in ("biu" if name in _INTEGERS else "biuf") or array.dtype == np.uint64:
                raise ModelError(f"tree {index}: {name} holds {array.dtype}; {_DAMAGED}")
            columns[name].append(array)
        sizes.append(size)
        total += size
        if total > max_nodes:
            raise ModelError(
                f"the model has {total} nodes up to tree {index}: a file of its size may have {max_nodes}, any file "
                f"{MAX_NODES}; train fewer or smaller trees"
            )
    if not sizes:
        raise ModelError("the model has no trees: train at least one round")
    return columns, sizes


def _array(values: Any, name: str, index: int) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list):
        raise _differ(index)
    # NumPy would pad every string to the longest one, and turn a small file into a large array.
    others = set(map(type, values)) - NUMBERS
    if list in others:
        raise _differ(index)
    if others:
        raise ModelError(f"tree {index}: {name} holds {np.dtype(str if str in others else object)}; {_DAMAGED}")
    return np.asarray(values)


def _levels(starts: IntArray, left: IntArray, right: IntArray, begins: IntArray, counts: IntArray) -> list[IntArray]:
    """Return the nodes that rows can reach, level by level for all trees.

    begins, counts: for each node, the first node of its tree, and the number of nodes in that tree.
    """
    seen = np.zeros(len(left), np.bool_)
    place = np.empty(len(left), np.int32)
    seen[starts] = True
    levels = [starts]
    while len(inner := levels[-1][left[levels[-1]] != -1]):
        if len(levels) > MAX_DEPTH:
            tree = int(np.searchsorted(starts, inner[0], side="right")) - 1
            raise ModelError(f"tree {tree} is deeper than {MAX_DEPTH} splits: train with a smaller max_depth")
        children = np.concatenate((left[inner], right[inner]))
        parents = np.concatenate((inner, inner))
        outside = (children < 0) | (children >= counts[parents])
        nodes = np.where(outside, starts[0], children + begins[parents])
        order = np.arange(len(nodes), dtype=np.int32)
        place[nodes] = order
        # If two parents share a child, `place` holds the position of the second.
        wrong = outside | seen[nodes] | (place[nodes] != order)
        if wrong.any():
            first = int(wrong.argmax())
            tree = int(np.searchsorted(starts, parents[first], side="right")) - 1
            raise ModelError(f"tree {tree}: node {children[first]} is not a valid child; {_DAMAGED}")
        seen[nodes] = True
        levels.append(nodes)
    return levels


def _differ(index: int) -> ModelError:
    return ModelError(f"tree {index}: its arrays differ in length; {_DAMAGED}")
