"""Log groups encrypted with the deployment's key, kept for a month and deleted with the stack."""

from collections.abc import Sequence

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(scope: Construct, construct_id: str, *, key: kms.IKey, name: str | None = None) -> logs.LogGroup:
    """Return a log group with a retention; a log group that a service creates keeps logs forever, even after destroy.

    name: must start with a prefix that the key's policy admits (`admit_logs`); by default, CloudFormation prefixes the
        stack's name.
    """
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        retention=logs.RetentionDays.ONE_MONTH,
        removal_policy=RemovalPolicy.DESTROY,
    )


def admit_logs(key: kms.Key, names: Sequence[str]) -> None:
    """Allow CloudWatch Logs to use the key for log groups with these names only; `*` matches any suffix."""
    groups = [f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:{name}" for name in names]
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="LogsOfThisDeployment",
            principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.{Aws.URL_SUFFIX}")],
            actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
            resources=["*"],
            conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        )
    )
