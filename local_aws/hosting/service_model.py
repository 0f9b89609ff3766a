"""Requests and responses of AWS's operations, held against botocore's service models and the account's declarations."""

import base64
import binascii
import json
import math
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any

import botocore
from botocore.loaders import Loader

from local_aws.api.declaration import Members, Service
from local_aws.api.sagemaker import SAGEMAKER as DECLARED_SAGEMAKER
from local_aws.hosting.errors import ApiError
from local_aws.hosting.patterns import compiled

Document = dict[str, Any]
_TRUTHS = {"true": True, "false": False}
_PARTS = ("member", "key", "value")
"""Where the shapes of lists and maps name the shapes of what they hold."""
_ABSENT: tuple[Any, ...] = (None, "", [], {})
"""Values that ask for nothing, so they are not refused."""


class ServiceModel:
    """One service's operations.

    declared: the states of their members; None for a service whose members are not declared one by one. code: of the
    error for input that breaks a rule. inputs_of: operations to which the model is reduced, and to their inputs; None
    for the whole model.
    """

    def __init__(
        self,
        service: str,
        declared: Service | None = None,
        code: str = "ValidationException",
        inputs_of: Collection[str] | None = None,
    ) -> None:
        self._service, self._declared, self.code = service, declared, code
        self._inputs_of = inputs_of

    @cached_property
    def _model(self) -> Document:
        model: Document = Loader().load_service_model(self._service, "service-2")
        if self._inputs_of is not None:
            model = _inputs(model, self._inputs_of)
        # Most of its megabytes are documentation.
        return {"operations": _undocumented(model["operations"]), "shapes": _undocumented(model["shapes"])}

    def input_shape(self, operation: str) -> str | None:
        """Return the name of the shape of an operation's input, or None if it has none."""
        given: Document | None = self._model["operations"][operation].get("input")
        return None if given is None else str(given["shape"])

    def members(self, operation: str) -> Document:
        """Return the members of an operation's input, by name, with their location in an HTTP request."""
        members: Document = self.shape(self._model["operations"][operation]["input"]["shape"])["members"]
        return members

    def check_input(
        self, operation: str, request: Document, *, text: bool = False, complete: bool | None = None
    ) -> Document:
        """Return a request with the model's types; raise ApiError in AWS's words for anything the model forbids.

        text: whether numbers and truths may be text, as in templates, headers and forms. complete: whether required
        members must be there, and no unknown ones; None means: unless it is text, whose reader sees to that.
        """
        complete = not text if complete is None else complete
        if "input" not in self._model["operations"].get(operation, {}):
            return request
        shape = self._model["operations"][operation]["input"]["shape"]
        converted: Document = _Conversion(self, operation, text, complete).convert(shape, request, "")
        problems = list(self._problems(shape, converted, "", required=complete))
        if problems:
            plural = "s" if len(problems) > 1 else ""
            raise ApiError(self.code, f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}")
        self.check_supported(operation, converted)
        return converted

    def check_supported(self, operation: str, request: Document) -> None:
        """Raise ApiError for a member, or a value, that is not declared as supported or as AWS's alone."""
        if self._declared is not None and operation in self._declared.operations:
            shape = self._model["operations"][operation]["input"]["shape"]
            self._refuse_unsupported(self._declared, shape, request, "")

    def _refuse_unsupported(self, declared: Service, name: str, value: Any, path: str) -> None:
        shape = self.shape(name)
        match shape["type"]:
            case "structure":
                members = declared.structures[name]
                for key, member in value.items():
                    if key in shape["members"] and member not in _ABSENT and key not in members.aws_only:
                        self._refuse_member(members, key, member, f"{path}{key}")
                        self._refuse_unsupported(declared, shape["members"][key]["shape"], member, f"{path}{key}.")
            case "list":
                for number, member in enumerate(value, 1):
                    self._refuse_unsupported(declared, shape["member"]["shape"], member, f"{path}{number}.")
            case "map":
                for key, member in value.items():
                    self._refuse_unsupported(declared, shape["value"]["shape"], member, f"{path}{key}.")

    def _refuse_member(self, members: Members, key: str, value: Any, path: str) -> None:
        if key not in members.supported.split():
            reason = members.refused.get(key, "it is not declared")
            raise ApiError(self.code, f"{path} is not supported by the local account: {reason}")
        shown = str(value).lower() if isinstance(value, bool) else value
        for refused_value, reason in members.values.get(key, {}).items():
            if shown == refused_value:
                raise ApiError(self.code, f"{path} {shown} is not supported by the local account: {reason}")

    def output(self, operation: str, response: Document) -> Document:
        """Return a response whose whole numbers are integers where the model says so."""
        described = self._model["operations"].get(operation, {}).get("output")
        typed: Document = response if described is None else self._typed(described["shape"], response)
        return typed

    def shape(self, name: str) -> Document:
        """Return a shape by name."""
        shape: Document = self._model["shapes"][name]
        return shape

    def _typed(self, name: str, value: Any) -> Any:
        shape = self.shape(name)
        match shape["type"]:
            case "structure" if isinstance(value, dict):
                members = shape["members"]
                return {
                    key: self._typed(members[key]["shape"], member) if key in members else member
                    for key, member in value.items()
                }
            case "list" if isinstance(value, list):
                return [self._typed(shape["member"]["shape"], member) for member in value]
            case "map" if isinstance(value, dict):
                return {key: self._typed(shape["value"]["shape"], member) for key, member in value.items()}
            case "integer" | "long" if isinstance(value, float) and value.is_integer():
                return int(value)
        return value

    def _problems(self, name: str, value: Any, path: str, *, required: bool = True) -> Iterator[str]:
        """Yield what a converted value breaks, in AWS's words."""
        shape = self.shape(name)
        for broken in _broken(shape, value):
            yield f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: Member must {broken}"
        match shape["type"]:
            case "structure":
                for key in shape.get("required", ()) if required else ():
                    if key not in value:
                        yield f"Value at '{_member(path, key)}' failed to satisfy constraint: Member must not be null"
                for key, member in value.items():
                    if key in shape["members"]:
                        yield from self._problems(shape["members"][key]["shape"], member, _member(path, key))
            case "list":
                for number, member in enumerate(value, 1):
                    yield from self._problems(shape["member"]["shape"], member, f"{path}.{number}.member")
            case "map":
                for key, member in value.items():
                    yield from self._problems(shape["key"]["shape"], key, f"{path}.key")
                    yield from self._problems(shape["value"]["shape"], member, f"{path}.{key}.member")


class _Conversion:
    """Conversion of one request's values to the types of the model."""

    def __init__(self, model: ServiceModel, operation: str, text: bool, complete: bool) -> None:
        self._model, self._operation, self._text, self._complete = model, operation, text, complete

    def convert(self, name: str, value: Any, path: str) -> Any:
        """Return a value with its shape's type; raise ApiError if it has none that fits."""
        shape = self._model.shape(name)
        match shape["type"]:
            case "structure":
                return self._structure(shape, self._expect(value, dict, path), path)
            case "map":
                item = shape["value"]["shape"]
                return {
                    key: self.convert(item, member, f"{path}.{key}")
                    for key, member in self._expect(value, dict, path).items()
                }
            case "list":
                item = shape["member"]["shape"]
                return [self.convert(item, member, path) for member in self._expect(value, list, path)]
            case kind:
                return self._scalar(kind, value, path)

    def _structure(self, shape: Document, value: Document, path: str) -> Document:
        members = shape["members"]
        # As in every AWS protocol, null means that the member is absent.
        given = {key: member for key, member in value.items() if member is not None}
        unknown = [key for key in given if key not in members]
        if unknown and self._complete and not shape.get("document"):
            raise ApiError(
                self._model.code,
                f"{self._operation} has no member '{_member(path, unknown[0])}' in the service model of botocore "
                f"{botocore.__version__}, which the local account follows",
            )
        return {
            key: self.convert(members[key]["shape"], member, _member(path, key)) if key in members else member
            for key, member in given.items()
        }

    def _scalar(self, kind: str, value: Any, path: str) -> Any:
        if self._text:
            value = _from_text(kind, value)
        match kind:
            case "integer" | "long":
                if isinstance(value, float) and value.is_integer():
                    return int(value)
                return self._expect(value, int, path)
            case "float" | "double":
                return value if isinstance(value, int) and not isinstance(value, bool) else self._number(value, path)
            case "boolean":
                return self._expect(value, bool, path)
            case "timestamp":
                return float(self._number(value, path))
        return self._expect(value, bytes if isinstance(value, bytes) else str, path)

    def _number(self, value: Any, path: str) -> float:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        number: float = self._expect(value, float, path)
        if not math.isfinite(number):
            raise _mistyped(path, str(number), "a number")
        return number

    def _expect(self, value: Any, kind: type, path: str) -> Any:
        # A truth is an int in Python, and no number in JSON.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _mistyped(path, type(value).__name__, kind.__name__)
        return value


def json_document(body: bytes) -> Document:
    """Return the object that a JSON body holds; raise ApiError for anything else."""
    try:
        content = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ApiError("SerializationException", "the body is no JSON object")
    return content


def _undocumented(model: Any) -> Any:
    if isinstance(model, dict):
        # A member may be named "documentation" too, and is then no text.
        kept = {key: value for key, value in model.items() if key != "documentation" or not isinstance(value, str)}
        return {key: _undocumented(value) for key, value in kept.items()}
    return [_undocumented(each) for each in model] if isinstance(model, list) else model


def _mistyped(path: str, found: str, expected: str) -> ApiError:
    return ApiError("SerializationException", f"Value at '{path}' is {found}: expected {expected}")


def _from_text(kind: str, value: Any) -> Any:
    """Return the number, truth, time or text that a template's value means; unchanged if it means none."""
    if kind == "string" and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str):
        return value
    try:
        match kind:
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "boolean":
                return _TRUTHS.get(value.lower(), value)
            case "timestamp":
                return datetime.fromisoformat(value).timestamp()
    except ValueError:
        pass
    return value


def _inputs(model: Document, operations: Collection[str]) -> Document:
    """Return a service model reduced to the inputs of some operations."""
    shapes: Document = {}

    def add(name: str) -> None:
        if name in shapes:
            return
        shape = shapes[name] = model["shapes"][name]
        for part in (*shape.get("members", {}).values(), *(shape[each] for each in _PARTS if each in shape)):
            add(part["shape"])

    kept = {
        name: {key: value for key, value in model["operations"][name].items() if key == "input"} for name in operations
    }
    for operation in kept.values():
        if "input" in operation:
            add(operation["input"]["shape"])
    return {"operations": kept, "shapes": shapes}


def _broken(shape: Document, value: Any) -> Iterator[str]:
    """Yield the constraints of a shape that a value breaks."""
    sized = isinstance(value, str | bytes | list | dict)
    size = len(_bytes(value) if shape["type"] == "blob" else value) if sized else value
    kind = "have length" if sized else "have value"
    if "enum" in shape and value not in shape["enum"]:
        yield f"satisfy enum value set: [{', '.join(shape['enum'])}]"
    if "min" in shape and size < shape["min"]:
        yield f"{kind} greater than or equal to {shape['min']}"
    if "max" in shape and size > shape["max"]:
        yield f"{kind} less than or equal to {shape['max']}"
    pattern = compiled(shape["pattern"]) if "pattern" in shape else None
    if pattern is not None and not pattern.fullmatch(value):
        yield f"satisfy regular expression pattern: {shape['pattern']}"


def _bytes(value: Any) -> bytes:
    """Return a blob, which is base64 in JSON and in forms."""
    try:
        return value if isinstance(value, bytes) else base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


def _shown(value: Any) -> str:
    return str(value)[:1024]


def _member(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


SAGEMAKER = ServiceModel("sagemaker", DECLARED_SAGEMAKER)
