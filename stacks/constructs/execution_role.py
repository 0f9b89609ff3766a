"""The role that SageMaker assumes to serve endpoints."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.artifact_writers import service_principal
from stacks.constructs.images import REGISTRY_TOKEN
from stacks.constructs.statements import allow
from stacks.resources import SharedResources

_VPC_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
"""What SageMaker needs to place containers in a VPC; EC2 has no resource-level permission for most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEndpoint:
    """An endpoint that the role serves: its name, its alarms' names, and where it captures data, if it does.

    component: name of its inference component, whose containers log to a group of their own.
    """

    name: str
    alarm_names: Sequence[str]
    capture_prefix: str | None = None
    component: str | None = None


def execution_role(
    scope: Construct,
    construct_id: str,
    *,
    endpoints: Sequence[ServedEndpoint],
    artifacts: str,
    multi_model: bool = False,
    image_repository_arn: str,
    resources: SharedResources,
) -> iam.Role:
    """Return a role with only the permissions that these endpoints need.

    artifacts: prefix of the archives' keys. It must cover past builds: while an endpoint is updated, the old instances
    load models with this role, too. multi_model: the endpoints list their models.
    """
    bucket, key = resources.artifacts, resources.key
    archives = bucket.arn_for_objects(f"{artifacts}/*")
    captures = [endpoint.capture_prefix for endpoint in endpoints if endpoint.capture_prefix is not None]
    components = [endpoint.component for endpoint in endpoints if endpoint.component is not None]
    log_groups = [_arn("logs", f"log-group:/aws/sagemaker/Endpoints/{endpoint.name}") for endpoint in endpoints]
    log_groups += [_arn("logs", f"log-group:/aws/sagemaker/InferenceComponents/{name}") for name in components]
    namespaces = ["/aws/sagemaker/Endpoints", "AWS/SageMaker"]
    namespaces += ["/aws/sagemaker/InferenceComponents"] if components else []
    alarms = [_arn("cloudwatch", f"alarm:{name}") for endpoint in endpoints for name in endpoint.alarm_names]
    statements = [
        allow(["s3:GetObject"], [archives]),
        allow(["kms:Decrypt", *(["kms:GenerateDataKey"] if captures else [])], [key.key_arn]),
        allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [image_repository_arn],
        ),
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        # The stack creates the log groups. If the role could create log groups, SageMaker would recreate one after
        # `cdk destroy`, and the next deployment would find its name taken.
        allow(
            ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [arn for group in log_groups for arn in (group, f"{group}:log-stream:*")],
        ),
        iam.PolicyStatement(
            actions=["cloudwatch:PutMetricData"],
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": namespaces}},
        ),
        *([allow(["cloudwatch:DescribeAlarms"], alarms)] if alarms else []),
    ]
    if multi_model:
        statements.append(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{artifacts}/*"]}},
            )
        )
    captured = [bucket.arn_for_objects(f"{prefix}/*") for prefix in captures]
    if captured:
        statements.append(allow(["s3:PutObject"], captured))
    if resources.vpc is not None:
        statements.append(allow(list(_VPC_ACTIONS), ["*"]))
    # An inline policy is created with its role, so no model is ever created before its permissions.
    role = iam.Role(
        scope,
        construct_id,
        assumed_by=service_principal("sagemaker.amazonaws.com"),
        inline_policies={"Serve": iam.PolicyDocument(statements=statements)},
    )
    acknowledge_wildcards(
        role,
        ["*"],
        f"{REGISTRY_TOKEN}; cloudwatch:PutMetricData has none either and is bound to SageMaker's namespaces; in a "
        "network, EC2 has no resource-level permission for most of what SageMaker does to network interfaces",
    )
    acknowledge_wildcards(
        role,
        [f"{group}:log-stream:*" for group in log_groups],
        "a container's stream is named after the instance, which is not known before; the log group is the endpoint's",
    )
    acknowledge_wildcards(
        role, captured, "captured requests are named after the hour and the request; the prefix is the endpoint's own"
    )
    acknowledge_wildcards(
        role,
        [archives],
        "a workload's archives have the hash of their inputs in their keys, and an update serves the last build's, too",
    )
    return role


def _arn(service: str, resource: str) -> str:
    return f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"
