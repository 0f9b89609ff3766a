"""A network without internet: private subnets in two zones, and VPC endpoints of only the services it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.log_group import log_group

CONTAINER_SERVICES: Mapping[str, ec2.InterfaceVpcEndpointAwsService] = {
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrDocker": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
}
"""What every container needs: its image, and a place for its output. Layers of images come from S3's gateway."""
IMAGE_LAYERS = f"arn:{Aws.PARTITION}:s3:::prod-{Aws.REGION}-starport-layer-bucket/*"
"""Objects that hold the layers of images in ECR ("Amazon ECR interface VPC endpoints" in its user guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAccess:
    """What the S3 gateway endpoint lets through.

    readable, writable: ARNs of objects. owned: buckets with which this account's principals may do what their own
    policies allow.
    """

    readable: Sequence[str]
    writable: Sequence[str] = ()
    owned: Sequence[s3.IBucket] = ()


class IsolatedNetwork(Construct):
    """A VPC over two zones without internet gateway and NAT: traffic passes only through the VPC endpoints.

    It costs one interface endpoint per service and zone. Five of them cost less than two NAT gateways with traffic,
    and code without a route to the internet cannot be made to send anything there.

    services: get an interface endpoint, which serves only principals of this account.
    clients: users of the endpoints, as text for the descriptions of security group rules.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        cidr: str,
        availability_zones: Sequence[str] | None,
        services: Mapping[str, ec2.InterfaceVpcEndpointAwsService],
        objects: ObjectAccess,
        clients: str,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, construct_id)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(cidr),
            subnet_configuration=[ec2.SubnetConfiguration(name="Private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)],
            restrict_default_security_group=False,
            availability_zones=list(availability_zones) if availability_zones else None,
            max_azs=None if availability_zones else 2,
        )
        flow_logs = log_group(self, "FlowLogs", key=key)
        self.vpc.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(flow_logs),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        gateway = self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        for action, arns in (("s3:GetObject", objects.readable), ("s3:PutObject", objects.writable)):
            if arns:
                gateway.add_to_policy(
                    iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=[action], resources=list(arns))
                )
        for bucket in objects.owned:
            gateway.add_to_policy(_of_this_account(["s3:*"], [bucket.bucket_arn, bucket.arn_for_objects("*")]))
        self._clients = clients
        self._security_group = ec2.SecurityGroup(
            self,
            "Endpoints",
            vpc=self.vpc,
            description=f"Interface endpoints: HTTPS from {clients} only",
            allow_all_outbound=False,
        )
        for name, service in services.items():
            endpoint = self.vpc.add_interface_endpoint(
                name, service=service, security_groups=[self._security_group], open=False, private_dns_enabled=True
            )
            endpoint.add_to_policy(_of_this_account(["*"], ["*"]))

    def admit(self, clients: ec2.ISecurityGroup) -> None:
        """Let a security group's members use the endpoints, and S3, whose addresses have no group."""
        self._security_group.add_ingress_rule(clients, ec2.Port.tcp(443), f"HTTPS from {self._clients}")
        # The only ways out of the network are the endpoints; S3's prefix list has another id in every region.
        clients.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "HTTPS to the endpoints of this network")


def _of_this_account(actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    """Return a statement that lets only principals of this account through, so that stolen keys are useless."""
    return iam.PolicyStatement(
        principals=[iam.AnyPrincipal()],
        actions=actions,
        resources=resources,
        conditions={"StringEquals": {"aws:PrincipalAccount": Aws.ACCOUNT_ID}},
    )
