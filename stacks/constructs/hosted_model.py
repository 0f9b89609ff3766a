"""A SageMaker model: an image, its archives in S3 and its environment, without a network."""

from collections.abc import Mapping

from aws_cdk import Fn
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.settings import Vpc


def hosted_model(
    scope: Construct,
    construct_id: str,
    *,
    image_uri: str,
    model_key: str,
    role: iam.IRole,
    artifacts: s3.IBucket,
    vpc: Vpc | None,
    multi_model: bool = False,
    environment: Mapping[str, str] | None = None,
) -> sagemaker.CfnModel:
    """The model of an archive's key, or of a key prefix in MultiModel mode; unnamed, so that a change replaces it."""
    return sagemaker.CfnModel(
        scope,
        construct_id,
        execution_role_arn=role.role_arn,
        enable_network_isolation=True,
        primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
            image=image_uri,
            mode="MultiModel" if multi_model else None,
            model_data_url=Fn.join("", ["s3://", artifacts.bucket_name, "/", model_key]),
            environment=dict(environment) if environment else None,
        ),
        vpc_config=None
        if vpc is None
        else sagemaker.CfnModel.VpcConfigProperty(
            subnets=list(vpc.subnet_ids), security_group_ids=list(vpc.security_group_ids)
        ),
    )
