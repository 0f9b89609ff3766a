"""IAM statements in one line."""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam


def allow(actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    """Return a statement that allows actions on resources."""
    return iam.PolicyStatement(actions=actions, resources=resources)
