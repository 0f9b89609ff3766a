"""Private buckets, deleted with their stack unless data is retained."""

from aws_cdk import CfnResource, Duration, RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.log_group import log_group


def private_bucket(
    scope: Construct,
    construct_id: str,
    *,
    removal: RemovalPolicy,
    key: kms.IKey | None = None,
    versioned: bool = False,
    logs: s3.IBucket | None = None,
) -> s3.Bucket:
    """Return a bucket that requires TLS 1.2; key: None for S3's own. logs: bucket of its access logs."""
    return s3.Bucket(
        scope,
        construct_id,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        removal_policy=removal,
        auto_delete_objects=removal is RemovalPolicy.DESTROY,
        lifecycle_rules=[
            s3.LifecycleRule(
                noncurrent_version_expiration=Duration.days(30),
                abort_incomplete_multipart_upload_after=Duration.days(2),
            )
        ],
        encryption=s3.BucketEncryption.S3_MANAGED if key is None else s3.BucketEncryption.KMS,
        encryption_key=key,
        bucket_key_enabled=True if key is not None else None,
        versioned=versioned or None,
        server_access_logs_bucket=logs,
        server_access_logs_prefix=None if logs is None else f"{construct_id.lower()}/",
    )


def emptying_role_arn(scope: Construct) -> str:
    """Return the ARN of the role of the CDK's function that empties buckets with their stack."""
    provider = scope.node.find_child("Custom::S3AutoDeleteObjectsCustomResourceProvider")
    role = provider.node.find_child("Role")
    assert isinstance(role, CfnResource)
    return role.get_att("Arn").to_string()


def log_emptying(scope: Construct, *, key: kms.IKey) -> None:
    """Delete the logs of the CDK's bucket-emptying function with the stack; otherwise they would stay."""
    group = log_group(scope, "EmptyBucketsLogs", key=key)
    handler = scope.node.find_child("Custom::S3AutoDeleteObjectsCustomResourceProvider").node.find_child("Handler")
    assert isinstance(handler, CfnResource)
    handler.add_property_override("LoggingConfig", {"LogGroup": group.log_group_name})
