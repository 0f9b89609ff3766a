"""Condition operators of IAM policies.

Sources: "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or values" in the
IAM user guide.
"""

import base64
import difflib
import ipaddress
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from local_aws.authorization import patterns
from local_aws.authorization.patterns import Context, Piece

_Matches = Callable[[Sequence[Piece], str], bool]
_IF_EXISTS = "ifexists"
_NULL = "Null"
_TRUTH = ("true", "false")
_VARIABLES = frozenset({"String", "Arn"})
"""Kinds of operators whose values may have policy variables."""


class ConditionError(ValueError):
    """A condition that IAM refuses; the message is one line."""


class Quantifier(Enum):
    """How a condition treats a key with several values."""

    NONE = ""
    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


def _equals(pieces: Sequence[Piece], value: str) -> bool:
    return patterns.text(pieces) == value


def _equals_ignoring_case(pieces: Sequence[Piece], value: str) -> bool:
    return patterns.text(pieces).lower() == value.lower()


def _address(pieces: Sequence[Piece], value: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(patterns.text(pieces), strict=False)
    except ValueError:
        return False


def _binary(pieces: Sequence[Piece], value: str) -> bool:
    try:
        return _decoded(patterns.text(pieces)) == _decoded(value)
    except ValueError:
        return False


def _decoded(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _compared(parse: Callable[[str], float], compare: Callable[[float, float], bool]) -> _Matches:
    def matches(pieces: Sequence[Piece], value: str) -> bool:
        try:
            return compare(parse(value), parse(patterns.text(pieces)))
        except ValueError:
            return False

    return matches


def _seconds(value: str) -> float:
    """Return a date, in a W3C profile of ISO 8601 or in seconds since 1970, as seconds since 1970."""
    if re.fullmatch(r"\d+(\.\d+)?", value) and len(value.partition(".")[0]) > len("2026"):
        return float(value)
    parsed = datetime.fromisoformat(value)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _truth(value: str) -> str:
    if value.lower() not in _TRUTH:
        raise ValueError(value)
    return value.lower()


@dataclass(frozen=True, slots=True)
class _Operator:
    """kind: what values it compares. check: raises ValueError for a value that a policy cannot have."""

    kind: str
    matches: _Matches
    negated: bool = False
    check: Callable[[str], object] = str


def _pair(name: str, kind: str, matches: _Matches, check: Callable[[str], object] = str) -> dict[str, _Operator]:
    """Return an operator such as `StringEquals` with its negation."""
    negation = f"{kind}Not{name.removeprefix(kind)}" if name.startswith(kind) else f"Not{name}"
    return {name: _Operator(kind, matches, False, check), negation: _Operator(kind, matches, True, check)}


def _ordered(kind: str, parse: Callable[[str], float]) -> dict[str, _Operator]:
    comparisons = {
        "LessThan": operator.lt,
        "LessThanEquals": operator.le,
        "GreaterThan": operator.gt,
        "GreaterThanEquals": operator.ge,
    }
    others = {
        f"{kind}{name}": _Operator(kind, _compared(parse, each), False, parse) for name, each in comparisons.items()
    }
    return {**_pair(f"{kind}Equals", kind, _compared(parse, operator.eq), parse), **others}


_OPERATORS: Mapping[str, _Operator] = {
    **_pair("StringEquals", "String", _equals),
    **_pair("StringEqualsIgnoreCase", "String", _equals_ignoring_case),
    **_pair("StringLike", "String", patterns.matches_text),
    # Both match wildcards: "ArnEquals and ArnLike behave identically".
    **_pair("ArnEquals", "Arn", patterns.matches_arn),
    **_pair("ArnLike", "Arn", patterns.matches_arn),
    **_pair("IpAddress", "Address", _address, lambda value: ipaddress.ip_network(value, strict=False)),
    **_ordered("Numeric", float),
    **_ordered("Date", _seconds),
    "Bool": _Operator("Bool", _equals_ignoring_case, False, _truth),
    "BinaryEquals": _Operator("Binary", _binary, False, _decoded),
}
_BY_LOWER_CASE = {name.lower(): each for name, each in _OPERATORS.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator.

    key: in lower case. values: as the policy has them. if_exists: the condition also holds without the key. variables:
    whether the values' policy variables are replaced.
    """

    operator: str
    quantifier: Quantifier
    if_exists: bool
    key: str
    values: tuple[str, ...]
    variables: bool

    def holds(self, context: Context) -> bool:
        """Return whether the condition is true for a request."""
        actual = context.get(self.key)
        if self.operator == _NULL.lower():
            return (not actual) == (self.values[0].lower() == "true")
        known = _BY_LOWER_CASE[self.operator]
        if not actual:
            return self.if_exists or (
                known.negated if self.quantifier is Quantifier.NONE else self.quantifier is Quantifier.ALL
            )
        results = [self._satisfied(known, value, context) for value in actual]
        if self.quantifier is Quantifier.ANY or (self.quantifier is Quantifier.NONE and not known.negated):
            return any(results)
        return all(results)

    def _satisfied(self, known: _Operator, value: str, context: Context) -> bool:
        """Several values of a policy are alternatives; a negated operator is true if none matches."""
        expected = (self._expanded(known, each, context) for each in self.values)
        return any(pieces is not None and known.matches(pieces, value) for pieces in expected) != known.negated

    def _expanded(self, known: _Operator, value: str, context: Context) -> tuple[Piece, ...] | None:
        if self.variables and known.kind in _VARIABLES:
            return patterns.expand(value, context)
        return ((value, False),)


def parse(name: str, key: str, values: Sequence[str], variables: bool) -> Condition:
    """Parse one key of a policy's condition; raise ConditionError.

    name: operator with its prefix and suffix, such as `ForAnyValue:StringLikeIfExists`; case does not matter.
    """
    quantifier, base = Quantifier.NONE, name
    for each in (Quantifier.ALL, Quantifier.ANY):
        if name.lower().startswith(each.value.lower()):
            quantifier, base = each, name[len(each.value) :]
    if_exists = base.lower().endswith(_IF_EXISTS)
    base = base[: -len(_IF_EXISTS)] if if_exists else base
    if base.lower() == _NULL.lower() and not if_exists and quantifier is Quantifier.NONE:
        check: Callable[[str], object] = _truth
    elif base.lower() in _BY_LOWER_CASE:
        check = _BY_LOWER_CASE[base.lower()].check
    else:
        raise ConditionError(f"the operator {name!r} does not exist{_suggestion(base)}")
    for value in values:
        try:
            check(value)
        except ValueError:
            raise ConditionError(f"{name} of {key} is {value!r}, which {base} does not accept") from None
    if not values:
        raise ConditionError(f"{name} of {key} has no value")
    return Condition(base.lower(), quantifier, if_exists, key.lower(), tuple(values), variables)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), [*_BY_LOWER_CASE, _NULL.lower()], 1)
    names = {each.lower(): each for each in (*_OPERATORS, _NULL)}
    return f": use {names[close[0]]}" if close else ""
