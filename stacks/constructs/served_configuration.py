"""A check after every update of an endpoint that it serves the configuration that was deployed."""

from pathlib import Path

from aws_cdk import Aws, CustomResource, Duration
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.handler_function import HandlerProps, handler_function, provider
from stacks.constructs.private_network import PrivateNetwork
from stacks.constructs.statements import allow

_HANDLER = Path(__file__).parent / "served_configuration_handler"


class ConfigurationCheck(Construct):
    """The custom resource provider that describes the endpoints of an environment."""

    def __init__(
        self, scope: Construct, construct_id: str, *, environment: str, key: kms.IKey, network: PrivateNetwork | None
    ) -> None:
        super().__init__(scope, construct_id)
        function = handler_function(
            self,
            "OnEvent",
            props=HandlerProps(folder=_HANDLER, handler="index.on_event", timeout=Duration.minutes(2), memory_mib=256),
            key=key,
            network=network,
        )
        endpoints = f"arn:{Aws.PARTITION}:sagemaker:{Aws.REGION}:{Aws.ACCOUNT_ID}:endpoint/{environment}-*"
        function.add_to_role_policy(allow(["sagemaker:DescribeEndpoint"], [endpoints]))
        assert function.role is not None
        acknowledge_wildcards(function.role, [endpoints], "the endpoints of every workload of the deployment")
        self.service_token = provider(self, on_event=function, key=key, network=network).service_token


def check_configuration(scope: Construct, endpoint: sagemaker.CfnEndpoint, name: str, service_token: str) -> None:
    """Fail a deployment after which an endpoint does not serve its configuration."""
    resource = CustomResource(
        scope,
        "Served",
        resource_type="Custom::ServedConfiguration",
        service_token=service_token,
        properties={"EndpointName": name, "EndpointConfigName": endpoint.endpoint_config_name},
    )
    resource.node.add_dependency(endpoint)
