"""A SageMaker model: an image, its archives in S3 and its environment, without a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aws_cdk import Fn
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.resources import SharedResources


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProps:
    """What a model consists of.

    key: S3 key of its archive; a key prefix with multi_model. environment: variables of the container.
    """

    image_uri: str
    key: str
    environment: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False


def hosted_model(
    scope: Construct, construct_id: str, *, props: ModelProps, role: iam.IRole, resources: SharedResources
) -> sagemaker.CfnModel:
    """Return a model without a name, so that every change replaces it."""
    vpc = resources.vpc
    return sagemaker.CfnModel(
        scope,
        construct_id,
        execution_role_arn=role.role_arn,
        enable_network_isolation=True,
        primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
            image=props.image_uri,
            mode="MultiModel" if props.multi_model else None,
            model_data_url=Fn.join("", ["s3://", resources.artifacts.bucket_name, "/", props.key]),
            environment=dict(props.environment) or None,
        ),
        vpc_config=None
        if vpc is None
        else sagemaker.CfnModel.VpcConfigProperty(
            subnets=list(vpc.subnet_ids), security_group_ids=list(vpc.security_group_ids)
        ),
    )
