"""IAM policy documents, parsed and checked.

Source: "IAM JSON policy element reference" in the IAM user guide.
"""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from local_aws.authorization import conditions, patterns
from local_aws.authorization.conditions import Condition, ConditionError
from local_aws.authorization.patterns import Context, Piece

_VERSIONS = ("2012-10-17", "2008-10-17")
_WITH_VARIABLES = _VERSIONS[0]
"""In documents of the older version, `${...}` is plain text."""
_ELEMENTS = frozenset(
    {
        "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition",
    }
)  # fmt: skip
_PRINCIPAL_TYPES = ("AWS", "Service", "Federated", "CanonicalUser")
_ACTION = re.compile(r"\*|[\w-]+:[\w*?]+", re.ASCII)
Json = object


class PolicyError(ValueError):
    """A policy that IAM refuses; the message is one line that names the policy and the element."""


@dataclass(frozen=True, slots=True)
class Principals:
    """The element `Principal` or `NotPrincipal`.

    anyone: `"*"`. aws: ARNs, account IDs and `*`. services: such as `logs.amazonaws.com`.
    """

    anyone: bool = False
    aws: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. Of each pair such as `actions` and `not_actions`, at most one is set.

    resources: None in a trust policy. variables: whether policy variables in resources are replaced.
    """

    sid: str
    allows: bool
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None
    principals: Principals | None
    not_principals: Principals | None
    conditions: tuple[Condition, ...]
    variables: bool

    def covers(self, action: str, resource: str, context: Context) -> bool:
        """Return whether action, resource and conditions match; principals are the caller's affair."""
        return (
            self.covers_action(action)
            and self._covers_resource(resource, context)
            and all(condition.holds(context) for condition in self.conditions)
        )

    def covers_action(self, action: str) -> bool:
        """Return whether the statement is about an action."""
        if self.actions is not None:
            return any(patterns.matches_action(pattern, action) for pattern in self.actions)
        return not any(patterns.matches_action(pattern, action) for pattern in self.not_actions or ())

    def _covers_resource(self, resource: str, context: Context) -> bool:
        if self.resources is not None:
            return self._matches(self.resources, resource, context)
        return self.not_resources is None or not self._matches(self.not_resources, resource, context)

    def _matches(self, given: tuple[str, ...], resource: str, context: Context) -> bool:
        expanded = (self._expanded(pattern, context) for pattern in given)
        return any(pieces is not None and patterns.matches_resource(pieces, resource) for pieces in expanded)

    def _expanded(self, pattern: str, context: Context) -> tuple[Piece, ...] | None:
        return patterns.expand(pattern, context) if self.variables else ((pattern, False),)


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed document. name: how messages call it."""

    name: str
    statements: tuple[Statement, ...]


def parse(document: str | Mapping[str, Json], name: str) -> Policy:
    """Parse a policy document, given as JSON or as what it decodes to; raise PolicyError."""
    try:
        decoded = json.loads(document) if isinstance(document, str) else document
    except ValueError as error:
        raise PolicyError(f"{name}: not JSON: {error}") from None
    parser = _Parser(name)
    content = parser.mapping(decoded, "the document")
    version = content.get("Version", _VERSIONS[1])
    if version not in _VERSIONS:
        raise parser.error("Version", f"is {version!r}: use {_WITH_VARIABLES!r}")
    unknown = content.keys() - {"Version", "Id", "Statement"}
    if unknown:
        raise parser.error(min(unknown), "is not an element of a policy: use Version, Id and Statement")
    statements = content.get("Statement")
    listed = statements if type(statements) is list else [statements]
    if statements is None or not listed:
        raise parser.error("Statement", "is missing")
    return Policy(name, tuple(parser.statement(each, n, version == _WITH_VARIABLES) for n, each in enumerate(listed)))


def misspelled_actions(policy: Policy, known: Mapping[str, Collection[str]]) -> list[str]:
    """Return one line for each action of a policy that no service has.

    known: names of actions, by service prefix. A pattern must match at least one of them.
    """
    return [
        f"{policy.name}: the action {pattern!r} does not exist{_suggestion(pattern, known)}"
        for statement in policy.statements
        for pattern in statement.actions or statement.not_actions or ()
        if pattern != "*" and not _exists(pattern, known)
    ]


def _exists(pattern: str, known: Mapping[str, Collection[str]]) -> bool:
    service = pattern.partition(":")[0].lower()
    return any(patterns.matches_action(pattern, f"{service}:{name}") for name in known.get(service, ()))


def _suggestion(pattern: str, known: Mapping[str, Collection[str]]) -> str:
    service, _, action = pattern.partition(":")
    if service.lower() not in known:
        prefix = difflib.get_close_matches(service.lower(), known, 1)
        return f": use {prefix[0]}:{action}" if prefix else ""
    names = {name.lower(): name for name in known[service.lower()]}
    close = difflib.get_close_matches(action.lower(), names, 1)
    return f": use {service}:{names[close[0]]}" if close else ""


@dataclass(frozen=True, slots=True)
class _Parser:
    """Checks on the elements of one policy."""

    name: str

    def error(self, element: str, message: str) -> PolicyError:
        return PolicyError(f"{self.name}: {element} {message}")

    def mapping(self, value: Json, element: str) -> Mapping[str, Json]:
        if not isinstance(value, Mapping):
            raise self.error(element, f"is {value!r}: it must be an object")
        return cast(Mapping[str, Json], value)

    def texts(self, value: Json, element: str) -> tuple[str, ...]:
        listed = value if isinstance(value, list) else [value]
        # JSON's numbers and truth values are what IAM compares as text.
        values = [str(each).lower() if isinstance(each, bool) else each for each in listed]
        if not values or not all(isinstance(each, str | int | float) for each in values):
            raise self.error(element, f"is {value!r}: it must be text or a list of texts")
        return tuple(map(str, values))

    def statement(self, value: Json, position: int, variables: bool) -> Statement:
        at = f"Statement[{position}]"
        given = self.mapping(value, at)
        unknown = given.keys() - _ELEMENTS
        if unknown:
            name = min(unknown)
            close = difflib.get_close_matches(name, _ELEMENTS, 1)
            raise self.error(f"{at}.{name}", "does not exist" + (f": use {close[0]}" if close else ""))
        if given.get("Effect") not in ("Allow", "Deny"):
            raise self.error(f"{at}.Effect", f"is {given.get('Effect')!r}: it must be 'Allow' or 'Deny'")
        for name in ("Action", "Resource", "Principal"):
            if name in given and f"Not{name}" in given:
                raise self.error(at, f"has both {name} and Not{name}: keep one")
        if "Action" not in given and "NotAction" not in given:
            raise self.error(at, "has neither Action nor NotAction")

        def texts(name: str) -> tuple[str, ...] | None:
            return self.texts(given[name], f"{at}.{name}") if name in given else None

        actions, not_actions = texts("Action"), texts("NotAction")
        for action in actions or not_actions or ():
            if not _ACTION.fullmatch(action):
                raise self.error(at, f"has the action {action!r}: write it as 'service:Name'")
        return Statement(
            sid=str(given.get("Sid", "")),
            allows=given["Effect"] == "Allow",
            actions=actions,
            not_actions=not_actions,
            resources=texts("Resource"),
            not_resources=texts("NotResource"),
            principals=self._principals(given, "Principal", at),
            not_principals=self._principals(given, "NotPrincipal", at),
            conditions=self._conditions(given.get("Condition", {}), f"{at}.Condition", variables),
            variables=variables,
        )

    def _principals(self, given: Mapping[str, Json], name: str, at: str) -> Principals | None:
        if name not in given:
            return None
        if given[name] == "*":
            return Principals(anyone=True)
        by_type = self.mapping(given[name], f"{at}.{name}")
        unknown = by_type.keys() - set(_PRINCIPAL_TYPES)
        if unknown:
            raise self.error(f"{at}.{name}.{min(unknown)}", f"does not exist: use one of {', '.join(_PRINCIPAL_TYPES)}")
        aws, services = (
            self.texts(by_type[each], f"{at}.{name}.{each}") if each in by_type else () for each in ("AWS", "Service")
        )
        return Principals("*" in aws, aws, services)

    def _conditions(self, value: Json, at: str, variables: bool) -> tuple[Condition, ...]:
        parsed = []
        for operator, block in self.mapping(value, at).items():
            for key, values in self.mapping(block, f"{at}.{operator}").items():
                # An empty list is never true.
                listed = () if values == [] else self.texts(values, f"{at}.{operator}.{key}")
                try:
                    parsed.append(conditions.parse(operator, key, listed, variables))
                except ConditionError as error:
                    raise self.error(at, f"is invalid: {error}") from None
        return tuple(parsed)
