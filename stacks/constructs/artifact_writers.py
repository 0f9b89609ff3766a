"""Restrict artifact writes to a workload's builds and cleanup functions; deny all others, even administrators."""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

_WRITES = (
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
)
EMPTYING = "emptying"
"""In place of a workload: the function that removes what no stack serves any more."""


def service_principal(service: str) -> iam.IPrincipal:
    """Return a service that acts for this account only, as AWS advises against confused deputies."""
    account = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
    return iam.PrincipalWithConditions(iam.ServicePrincipal(service), account)


def writer_path(environment: str, workload: str) -> str:
    """Return the IAM path of the roles that may write a workload's artifacts.

    The bucket's policy and the roles are in different stacks. The policy matches this path, because CloudFormation
    chooses the roles' names.
    """
    return f"/sagemaker-inference-stacks/{environment}/{workload}/"


def deny_other_writers(
    bucket: s3.Bucket,
    *,
    environment: str,
    workload: str,
    written: Sequence[str],
    also: Sequence[str],
) -> None:
    """Deny writes below a workload's prefixes to all but its builds and what empties them.

    written: object keys and key patterns. also: ARNs of further principals, as patterns.
    """
    roles = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role"
    writers = [f"{roles}{writer_path(environment, name)}*" for name in (workload, EMPTYING)]
    sid = "".join(part.capitalize() for part in workload.split("_"))
    bucket.add_to_resource_policy(
        iam.PolicyStatement(
            sid=f"OnlyBuildsWrite{sid}",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=list(_WRITES),
            resources=[bucket.arn_for_objects(key) for key in written],
            conditions={"ArnNotLike": {"aws:PrincipalArn": [*writers, *also]}},
        )
    )
