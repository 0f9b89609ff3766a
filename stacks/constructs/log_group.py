"""Where things log: encrypted by the deployment's key, for a month, and gone with the stack."""

from collections.abc import Sequence

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(scope: Construct, construct_id: str, *, key: kms.IKey, name: str | None = None) -> logs.LogGroup:
    """Return a log group with a retention; a service's own would keep logs forever and stay behind on destroy.

    name: begins as the key's policy says (`admit_logs`); absent, CloudFormation begins it with the stack's.
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
    """Lets CloudWatch Logs encrypt the log groups of these names with the key, `*` standing for any end, no others."""
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
