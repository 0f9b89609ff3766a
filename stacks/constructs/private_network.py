"""The private network of a deployment, if configured."""

from collections.abc import Mapping, Sequence

from aws_cdk import Aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from containers.load_test import contract
from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.isolated_network import CONTAINER_SERVICES, IMAGE_LAYERS, IsolatedNetwork, ObjectAccess
from stacks.settings.security import PrivateNetwork as Settings
from stacks.settings.security import Vpc

_SERVICES: Mapping[str, ec2.InterfaceVpcEndpointAwsService] = {
    **CONTAINER_SERVICES,
    "CloudFormation": ec2.InterfaceVpcEndpointAwsService.CLOUDFORMATION,
    "CodeBuild": ec2.InterfaceVpcEndpointAwsService.CODEBUILD,
    "Kms": ec2.InterfaceVpcEndpointAwsService.KMS,
    "Lambda": ec2.InterfaceVpcEndpointAwsService.LAMBDA_,
    "Monitoring": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_MONITORING,
    "SageMakerApi": ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_API,
    "SageMakerRuntime": ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_RUNTIME,
    "StepFunctions": ec2.InterfaceVpcEndpointAwsService.STEP_FUNCTIONS,
    "Sts": ec2.InterfaceVpcEndpointAwsService.STS,
}
_PACKAGES: Mapping[str, ec2.InterfaceVpcEndpointAwsService] = {
    "CodeArtifactApi": ec2.InterfaceVpcEndpointAwsService.CODEARTIFACT_API,
    "CodeArtifactRepositories": ec2.InterfaceVpcEndpointAwsService.CODEARTIFACT_REPOSITORIES,
}
_ANY_INTERFACE = f"arn:{Aws.PARTITION}:ec2:{Aws.REGION}:{Aws.ACCOUNT_ID}:network-interface/*"


def function_statements() -> list[iam.PolicyStatement]:
    """Return what Lambda may do with a function's role to place it in a network.

    Source: "Giving Lambda functions access to resources in an Amazon VPC" in the AWS Lambda developer guide.
    """
    return [
        iam.PolicyStatement(
            actions=[
                "ec2:AssignPrivateIpAddresses",
                "ec2:CreateNetworkInterface",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSubnets",
                "ec2:UnassignPrivateIpAddresses",
            ],
            resources=["*"],
        )
    ]


def build_statements() -> list[iam.PolicyStatement]:
    """Return what CodeBuild may do with the role of a project or fleet to place builds in a network.

    Source: "Allow CodeBuild access to AWS services required to create a VPC network interface" in its user guide.
    """
    return [
        iam.PolicyStatement(
            actions=[
                "ec2:CreateNetworkInterface",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            resources=["*"],
        ),
        iam.PolicyStatement(
            actions=["ec2:CreateNetworkInterfacePermission"],
            resources=[_ANY_INTERFACE],
            conditions={"StringEquals": {"ec2:AuthorizedService": f"codebuild.{Aws.URL_SUFFIX}"}},
        ),
    ]


def acknowledge_interfaces(role: iam.Role, *, builds: bool = False) -> None:
    """Acknowledge that these statements have no resources."""
    acknowledge_wildcards(
        role,
        ["*", *([_ANY_INTERFACE] if builds else [])],
        "the service creates, names and deletes the network interfaces, so their names are not known in advance",
    )


class PrivateNetwork(Construct):
    """A network over two zones without internet access, with one security group for its members.

    read: ARNs of other buckets' objects that recipes read, and of the buckets. packages: builds install from
        CodeArtifact.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        artifacts: s3.IBucket,
        read: Sequence[str],
        packages: bool,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, construct_id)
        bucket = f"arn:{Aws.PARTITION}:s3:::"
        network = IsolatedNetwork(
            self,
            "Network",
            cidr=settings.vpc_cidr,
            availability_zones=settings.availability_zones,
            services={**_SERVICES, **(_PACKAGES if packages else {})},
            objects=ObjectAccess(
                readable=[
                    IMAGE_LAYERS,
                    # The CDK's assets, whose bucket has the qualifier in its name, and CodeArtifact's files.
                    f"{bucket}cdk-*-assets-{Aws.ACCOUNT_ID}-{Aws.REGION}/*",
                    *([f"{bucket}assets-*-{Aws.REGION}/*"] if packages else []),
                    *read,
                ],
                # Where custom resources write their responses ("Access to Amazon S3" in the CloudFormation user guide).
                writable=[f"{bucket}cloudformation-custom-resource-response-*/*"],
                owned=[artifacts],
            ),
            clients="what runs in the network",
            key=key,
        )
        self.vpc = network.vpc
        self.members = ec2.SecurityGroup(
            self,
            "Members",
            vpc=network.vpc,
            description="What runs in the network: each other on the port of load tests only",
            allow_all_outbound=False,
        )
        port = ec2.Port.tcp(contract.PORT)
        self.members.add_ingress_rule(self.members, port, "Load tests' workers to their master")
        self.members.add_egress_rule(self.members, port, "Load tests' workers to their master")
        network.admit(self.members)
        self.subnets = ec2.SubnetSelection(subnets=network.vpc.isolated_subnets)

    @property
    def named(self) -> Vpc:
        """Return the network in the form of an existing VPC."""
        return Vpc(
            subnet_ids=tuple(subnet.subnet_id for subnet in self.vpc.isolated_subnets),
            security_group_ids=(self.members.security_group_id,),
        )

    def place_function(self, function: lambda_.Function) -> None:
        """Put a function into the network; its role needs `function_statements`."""
        resource = function.node.default_child
        assert isinstance(resource, lambda_.CfnFunction)
        placed = self.named
        resource.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
            subnet_ids=list(placed.subnet_ids), security_group_ids=list(placed.security_group_ids)
        )
