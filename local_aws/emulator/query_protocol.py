"""Requests in AWS's query protocols, nested as their service model has it.

Source: "AWS Query protocol" and "EC2 Query protocol" in the Smithy specification.
"""

from collections.abc import Mapping
from typing import Any

from local_aws.hosting.service_model import ServiceModel

Document = dict[str, Any]
_OUTSIDE = ("Action", "Version")
"""Parameters that name the operation and are none of its members."""


def nested(model: ServiceModel, operation: str, parameters: Mapping[str, str], *, ec2: bool) -> Document:
    """Return the input of an operation; values stay text, and unknown parameters stay as they are.

    ec2: whether the service has EC2's variant of the protocol.
    """
    tree: Document = {}
    for path, text in parameters.items():
        if path in _OUTSIDE:
            continue
        *parents, last = path.split(".")
        place = tree
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                inner = place[parent] = {}
            place = inner
        place.setdefault(last, text)
    shape = model.input_shape(operation)
    return tree if shape is None else _Reading(model, ec2).structure(shape, tree)


class _Reading:
    """Reading of one request."""

    def __init__(self, model: ServiceModel, ec2: bool) -> None:
        self._model, self._ec2 = model, ec2

    def structure(self, name: str, tree: Any) -> Document:
        """Return a structure's members by their own names."""
        members = {self._key(member, described): (member, described) for member, described in self._members(name)}
        found: Document = {}
        for key, value in (tree if isinstance(tree, dict) else {}).items():
            member, described = members.get(key, (key, None))
            found[member] = value if described is None else self._value(described["shape"], value)
        return found

    def _members(self, name: str) -> list[tuple[str, Document]]:
        return list(self._model.shape(name)["members"].items())

    def _key(self, member: str, described: Document) -> str:
        if not self._ec2:
            return str(described.get("locationName", member))
        key = str(described.get("queryName") or described.get("locationName") or member)
        return key if "queryName" in described else key[0].upper() + key[1:]

    def _value(self, name: str, tree: Any) -> Any:
        shape = self._model.shape(name)
        match shape["type"]:
            case "structure":
                return self.structure(name, tree)
            case "list":
                return [self._value(shape["member"]["shape"], item) for item in self._items(shape, tree, "member")]
            case "map":
                key, value = (str(shape[part].get("locationName", part)) for part in ("key", "value"))
                return {
                    str(item.get(key, "")): self._value(shape["value"]["shape"], item.get(value, ""))
                    for item in self._items(shape, tree, "entry")
                    if isinstance(item, dict)
                }
        return tree

    def _items(self, shape: Document, tree: Any, default: str) -> list[Any]:
        """Return what is numbered, in the order of the numbers."""
        if not isinstance(tree, dict):
            return []
        if not self._ec2 and not shape.get("flattened"):
            tree = tree.get(shape.get("member", {}).get("locationName", default), {})
        if not isinstance(tree, dict):
            return []
        return [tree[number] for number in sorted((key for key in tree if key.isdecimal()), key=int)]
