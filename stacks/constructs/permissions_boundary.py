"""A managed policy that bounds what any role of an app may ever do."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct


def bound(scope: Construct, policy: str) -> None:
    """Gives every role below the scope the boundary, those too that the CDK makes; policy: its ARN or its name."""
    arn = policy if policy.startswith("arn:") else f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:policy/{policy}"
    iam.PermissionsBoundary.of(scope).apply(iam.ManagedPolicy.from_managed_policy_arn(scope, "Boundary", arn))
