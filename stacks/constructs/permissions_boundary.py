"""A managed policy that bounds what any role of an app may ever do."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct


def apply_permissions_boundary(scope: Construct, policy: str) -> None:
    """Apply the boundary to every role below the scope, the CDK's included; policy: ARN or name."""
    arn = policy if policy.startswith("arn:") else f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:policy/{policy}"
    iam.PermissionsBoundary.of(scope).apply(iam.ManagedPolicy.from_managed_policy_arn(scope, "Boundary", arn))
