"""Findings of cdk-nag's AwsSolutions pack that are right to be as they are, each with its reason."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct

PACK = "AwsSolutions"
_EXPORT = re.compile(
    r"[\w-]+:ExportsOutput(?:FnGetAtt|Ref)(\w+?[0-9A-F]{8})(?:([A-Z][A-Za-z]+?)(?:[0-9A-F]{8}))?(?=/|$|\])"
)
"""What the CDK makes of a reference to another stack: its logical id, and its attribute with a hash."""


def acknowledge(scope: IConstruct, rule: str, reason: str) -> None:
    """Acknowledge one finding, for example `ELB2`, below the scope; the reason says what bounds it."""
    Validations.of(scope).acknowledge(Acknowledgment(id=f"{PACK}::{PACK}-{rule}", reason=reason))


def acknowledge_wildcards(scope: IConstruct, resources: Sequence[str], reason: str) -> None:
    """Acknowledge wildcards in policies below the scope, one by one, by the ARNs in the policy, tokens included."""
    stack = Stack.of(scope)
    for resource in resources:
        acknowledge(scope, f"IAM5[Resource::{_flat(stack.resolve(resource))}]", reason)


def acknowledgements(scope: IConstruct) -> Iterator[tuple[str, str, str]]:
    """Every accepted finding below the scope: path of the construct, id of the finding, reason."""
    for construct in scope.node.find_all():
        for entry in construct.node.metadata:
            if entry.type == Validations.ACKNOWLEDGED_RULES_METADATA_KEY:
                for finding, reason in entry.data.items():
                    if finding.startswith(f"{PACK}::"):
                        yield construct.node.path, finding, reason


def finding_id(rule: str) -> str:
    """Return the name that acknowledgements use for a finding, with resources of other stacks by their own names.

    The pack runs after the CDK has made exports of them, whose names are made up then.
    """
    named = _EXPORT.sub(lambda found: f"<{found[1]}.{found[2]}>" if found[2] else f"<{found[1]}>", rule)
    return named if "::" in rule.partition("[")[0] else f"{PACK}::{named}"


def _flat(value: Any) -> str:
    """Return a resolved text as cdk-nag shows it: `<Name>` for a reference, `<Name.Attribute>` for an attribute."""
    if isinstance(value, str):
        return value.replace("${", "<").replace("}", ">")
    match value:
        case {"Fn::Join": [delimiter, parts]}:
            return str(delimiter).join(_flat(part) for part in parts)
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
    return json.dumps(value)
