"""Where things log: encrypted by the deployment's key, for a month, and gone with the stack."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(scope: Construct, construct_id: str, *, key: kms.IKey, name: str | None = None) -> logs.LogGroup:
    """A log group; one that a service makes for itself has no end to retention and stays behind on destroy.

    name: begins as the key's policy says (`FoundationStack`); absent, CloudFormation begins it with the stack's.
    """
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        retention=logs.RetentionDays.ONE_MONTH,
        removal_policy=RemovalPolicy.DESTROY,
    )
