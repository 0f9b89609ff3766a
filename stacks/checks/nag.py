"""cdk-nag's AwsSolutions rules over a synthesized app, and what of their findings is acknowledged.

`app.py` applies them with the context `nag=true`, as `scripts/security` and the tests do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from stacks.checks.nag_acknowledgements import acknowledgements, finding_id

_SHORTEST_REASON = 40
"""Characters of a reason that says what bounds a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """rule: as an acknowledgement names it, pack and all. path: of the construct."""

    rule: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the rules found in one deployment.

    resources: how many were looked at. acknowledged: each finding's reason. open: without one.
    unused: acknowledgements of what is no longer found.
    """

    resources: int
    acknowledged: Mapping[Finding, str]
    open: Sequence[Finding]
    unused: Sequence[Finding]

    @property
    def clean(self) -> bool:
        """Whether every finding has a reason, and every reason a finding."""
        return not self.open and not self.unused


def examine(app: cdk.App) -> Report:
    """Apply every rule to a synthesized app."""
    given = {Finding(rule, path): reason for path, rule, reason in acknowledgements(app)}
    acknowledged: dict[Finding, str] = {}
    found: list[Finding] = []
    used: set[Finding] = set()
    for violation in AwsSolutionsChecks().validate_scope(app).violations:
        for resource in violation.violating_resources:
            finding = Finding(finding_id(violation.rule_name), str(resource.construct_path))
            accepted = [each for each, why in given.items() if _accepts(finding.path, why, each, finding)]
            used.update(accepted)
            if accepted:
                acknowledged[finding] = given[accepted[0]]
            else:
                found.append(finding)
    return Report(
        resources=sum(1 for construct in app.node.find_all() if cdk.CfnResource.is_cfn_resource(construct)),
        acknowledged=acknowledged,
        open=found,
        unused=[each for each in given if each not in used],
    )


def _within(path: str, ancestor: str) -> bool:
    return path == ancestor or path.startswith(f"{ancestor}/")


def _accepts(path: str, reason: str, acknowledgement: Finding, finding: Finding) -> bool:
    """Whether it is for that finding, there or below; never for every wildcard at once, nor without a reason."""
    return (
        acknowledgement.rule == finding.rule
        and (path == acknowledgement.path or path.startswith(f"{acknowledgement.path}/"))
        and len(reason) >= _SHORTEST_REASON
        and not acknowledgement.rule.endswith(("-IAM4", "-IAM5"))
    )


def table(name: str, found: Report) -> str:
    """Return a deployment's figures in one line, and the open findings below it."""
    lines = [
        f"{name}: {found.resources} resources, {len(found.acknowledged)} findings acknowledged for "
        f"{len(set(found.acknowledged.values()))} reasons, {len(found.open)} open, {len(found.unused)} left over"
    ]
    lines += [
        f"error: {each.path}: {each.rule} is open: fix it, or acknowledge it with a reason" for each in found.open
    ]
    lines += [f"error: {each.path}: nothing has {each.rule}: remove this reason" for each in found.unused]
    return "\n".join(lines)
