"""Resources of a deployment's foundation that its other stacks use."""

from dataclasses import dataclass

from aws_cdk import CfnResource, CrossStackReferences, ReferenceStrength, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.private_network import PrivateNetwork
from stacks.settings.deployment import Deployment
from stacks.settings.security import Vpc


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedResources:
    """The deployment's key, buckets, alert topic, and the networks that its parts run in.

    network: the deployment's own network without internet, for builds and functions. vpc: where models run.
    configuration_check: service token of the custom resource that checks what an endpoint serves.
    """

    artifacts: s3.IBucket
    access_logs: s3.IBucket
    key: kms.IKey
    alerts: sns.ITopic
    configuration_check: str
    network: PrivateNetwork | None = None
    vpc: Vpc | None = None


class DeploymentStack(Stack):
    """A stack in the deployment's region, or one that names none where the deployment names none."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id, env={"region": deployment.region} if deployment.region else None)


def release(scope: Construct) -> None:
    """Let other stacks refer to the resources that are in a scope by now, without keeping them as they are.

    CloudFormation keeps an export as long as a stack imports it. The stack of a workload that a deployment no longer
    has would so block the update that removes what built its models.
    """
    for construct in scope.node.find_all():
        if CfnResource.is_cfn_resource(construct):
            CrossStackReferences.of(construct).produce(ReferenceStrength.WEAK)
