"""Load tests on Fargate: where a Locust master and its workers run, for as long as a test takes."""

from collections.abc import Mapping

from aws_cdk import Aws, CfnOutput, Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from containers.load_test import contract
from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.images import REGISTRY_TOKEN, ServedImage, load_test_image
from stacks.constructs.isolated_network import CONTAINER_SERVICES, IMAGE_LAYERS, IsolatedNetwork, ObjectAccess
from stacks.constructs.log_group import log_group
from stacks.constructs.statements import allow
from stacks.naming import component_name
from stacks.resources import DeploymentStack, SharedResources
from stacks.settings.deployment import Deployment
from stacks.settings.load_test import LoadTest

_SERVICES: Mapping[str, ec2.InterfaceVpcEndpointAwsService] = {
    **CONTAINER_SERVICES,
    "SageMakerRuntime": ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_RUNTIME,
}
_USER = "10001:10001"


class LoadTestStack(DeploymentStack):
    """A cluster, one task definition and their network; nothing in it runs until a load test does."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: LoadTest,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        self._deployment, self._settings = deployment, settings
        self._artifacts, self._key = resources.artifacts, resources.key
        cluster = self._build_cluster(f"{deployment.environment}-load-test")
        logged = log_group(self, "Logs", key=self._key)
        definition = self._build_definition(load_test_image(self, "Image", deployment=deployment), logged)
        if settings.vpc is not None:
            subnet_ids, group_ids = list(settings.vpc.subnet_ids), list(settings.vpc.security_group_ids)
        else:
            subnet_ids, group_ids = self._build_network(settings)
        outputs = {
            "ClusterName": cluster.ref,
            "TaskDefinition": definition.ref,
            "Subnets": Fn.join(",", subnet_ids),
            "SecurityGroups": Fn.join(",", group_ids),
            "Results": f"s3://{self._artifacts.bucket_name}/{contract.FOLDER}/",
            "LogGroup": logged.log_group_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)

    def _build_cluster(self, name: str) -> ecs.CfnCluster:
        # Container Insights would make this group itself, and leave it behind.
        insights = log_group(self, "Insights", key=self._key, name=f"/aws/ecs/containerinsights/{name}/performance")
        cluster = ecs.CfnCluster(
            self,
            "Cluster",
            cluster_name=name,
            capacity_providers=["FARGATE", "FARGATE_SPOT"],
            cluster_settings=[ecs.CfnCluster.ClusterSettingsProperty(name="containerInsights", value="enabled")],
        )
        cluster.node.add_dependency(insights)
        return cluster

    def _build_network(self, settings: LoadTest) -> tuple[list[str], list[str]]:
        objects = self._artifacts.arn_for_objects(f"{contract.FOLDER}/*")
        network = IsolatedNetwork(
            self,
            "Network",
            cidr=settings.vpc_cidr,
            availability_zones=settings.availability_zones,
            services=_SERVICES,
            objects=ObjectAccess(readable=[objects, IMAGE_LAYERS], writable=[self._result_objects]),
            clients="the tasks",
            key=self._key,
        )
        group = ec2.SecurityGroup(
            self,
            "Tasks",
            vpc=network.vpc,
            description="Tasks of load tests: each other on the port of Locust only",
            allow_all_outbound=False,
        )
        port = ec2.Port.tcp(contract.PORT)
        group.add_ingress_rule(group, port, "Workers to their master")
        group.add_egress_rule(group, port, "Workers to their master")
        network.admit(group)
        return [subnet.subnet_id for subnet in network.vpc.isolated_subnets], [group.security_group_id]

    @property
    def _result_objects(self) -> str:
        return self._artifacts.arn_for_objects(f"{contract.FOLDER}/*/result.json")

    def _build_definition(self, image: ServedImage, logged: logs.LogGroup) -> ecs.CfnTaskDefinition:
        settings = self._settings
        definition = ecs.CfnTaskDefinition
        return ecs.CfnTaskDefinition(
            self,
            "Task",
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=f"{settings.vcpus * 1024:.0f}",
            memory=f"{settings.memory_gib * 1024:.0f}",
            runtime_platform=definition.RuntimePlatformProperty(
                cpu_architecture="X86_64", operating_system_family="LINUX"
            ),
            execution_role_arn=self._execution_role(image, logged).role_arn,
            task_role_arn=self._task_role().role_arn,
            container_definitions=[
                definition.ContainerDefinitionProperty(
                    name=contract.CONTAINER,
                    image=image.uri,
                    essential=True,
                    user=_USER,
                    readonly_root_filesystem=True,
                    stop_timeout=contract.STOP_SECONDS,
                    linux_parameters=definition.LinuxParametersProperty(
                        capabilities=definition.KernelCapabilitiesProperty(drop=["ALL"]), init_process_enabled=True
                    ),
                    log_configuration=definition.LogConfigurationProperty(
                        log_driver="awslogs",
                        options={
                            "awslogs-group": logged.log_group_name,
                            "awslogs-region": Aws.REGION,
                            "awslogs-stream-prefix": contract.STREAM_PREFIX,
                            # CloudWatch being slow must not hold the clients up.
                            "mode": "non-blocking",
                            "max-buffer-size": "4m",
                        },
                    ),
                )
            ],
        )

    def _execution_role(self, image: ServedImage, logged: logs.LogGroup) -> iam.Role:
        """Return the role with which Fargate pulls a task's image and writes its logs."""
        role = self._role(
            "ExecutionRole",
            allow(
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [image.repository_arn],
            ),
            allow(["ecr:GetAuthorizationToken"], ["*"]),
            allow(["logs:CreateLogStream", "logs:PutLogEvents"], [logged.log_group_arn]),
        )
        acknowledge_wildcards(role, ["*"], REGISTRY_TOKEN)
        return role

    def _task_role(self) -> iam.Role:
        invoked, objects = self._invoked(), self._artifacts.arn_for_objects(f"{contract.FOLDER}/*")
        role = self._role(
            "TaskRole",
            *([allow(["sagemaker:InvokeEndpoint"], invoked)] if invoked else []),
            allow(["s3:GetObject"], [objects]),
            allow(["s3:PutObject"], [self._result_objects]),
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=[self._key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"s3.{Aws.REGION}.{Aws.URL_SUFFIX}"}},
            ),
        )
        acknowledge_wildcards(
            role,
            [objects, self._result_objects],
            "a test's requests are read and its result is written under the test's own name, which is made when it "
            "starts; all of it ends by the bucket's lifecycle rule",
        )
        return role

    def _invoked(self) -> list[str]:
        """ARNs of every endpoint of the deployment, and of every inference component on them."""
        found: list[str] = []
        for workload, settings in self._deployment.workloads.items():
            for key, endpoint in settings.sagemaker_endpoints.items():
                name = self._deployment.endpoint_name(workload, key)
                found.append(_sagemaker(f"endpoint/{name}"))
                if endpoint.hosts_component:
                    found.append(_sagemaker(f"inference-component/{component_name(name)}"))
        return found

    def _role(self, construct_id: str, *statements: iam.PolicyStatement) -> iam.Role:
        account = {"aws:SourceAccount": Aws.ACCOUNT_ID}
        source = {"aws:SourceArn": f"arn:{Aws.PARTITION}:ecs:{Aws.REGION}:{Aws.ACCOUNT_ID}:*"}
        return iam.Role(
            self,
            construct_id,
            assumed_by=iam.PrincipalWithConditions(
                iam.ServicePrincipal("ecs-tasks.amazonaws.com"), {"StringEquals": account, "ArnLike": source}
            ),
            inline_policies={"LoadTest": iam.PolicyDocument(statements=list(statements))},
        )


def _sagemaker(resource: str) -> str:
    return f"arn:{Aws.PARTITION}:sagemaker:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"
