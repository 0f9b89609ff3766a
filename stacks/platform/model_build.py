"""The CodeBuild projects that build the models, and the provider that deployments wait on."""

from aws_cdk import Size
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.constructs.artifact_writers import service_principal
from stacks.constructs.assets import AssetSource, stage
from stacks.constructs.build_project import BuildProject, BuiltWorkload
from stacks.constructs.built_artifact import ArtifactBuilder, WorkloadBuild
from stacks.constructs.private_network import acknowledge_interfaces, build_statements
from stacks.naming import camel
from stacks.resources import DeploymentStack, SharedResources, release
from stacks.settings.deployment import Deployment
from stacks.settings.kinds import KINDS
from stacks.settings.model_build import ModelBuild


class ModelBuildStack(DeploymentStack):
    """One CodeBuild project per workload, on machines whose processor has what the artifacts need."""

    def __init__(
        self, scope: Construct, construct_id: str, *, deployment: Deployment, resources: SharedResources
    ) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        settings, workloads = deployment.model_build, deployment.workloads
        self._network = resources.network
        wants_fleet = settings.compute == "fleet" and any(each.builds_on_fleet for each in workloads.values())
        fleet = self._fleet(settings) if wants_fleet else None
        sources = {name: self._source(name, workload.kind) for name, workload in workloads.items()}
        projects = {
            name: BuildProject(
                self,
                f"{camel(name)}Build",
                environment=deployment.environment,
                workload=BuiltWorkload(
                    name=name,
                    kind=workload.kind,
                    source=sources[name],
                    s3_urls=workload.s3_urls,
                    compiles_ahead=not workload.builds_on_fleet,
                ),
                fleet=fleet if workload.builds_on_fleet else None,
                settings=settings,
                resources=resources,
            ).project
            for name, workload in workloads.items()
        }
        builder = ArtifactBuilder(
            self,
            "ArtifactBuilder",
            environment=deployment.environment,
            projects=list(projects.values()),
            build_minutes=settings.timeout_minutes + settings.queue_minutes,
            retain=deployment.retain_data,
            resources=resources,
        )
        self.builds = {
            name: WorkloadBuild(project=project, builder=builder, source_hash=sources[name].asset_hash, prefix=name)
            for name, project in projects.items()
        }
        release(self)

    def _source(self, name: str, kind: str) -> s3_assets.Asset:
        return s3_assets.Asset(self, f"{camel(name)}Source", path=stage(self, build_source(kind)))

    def _fleet(self, settings: ModelBuild) -> codebuild.Fleet:
        fleet = codebuild.Fleet(
            self,
            "Fleet",
            base_capacity=1,
            compute_type=codebuild.FleetComputeType.CUSTOM_INSTANCE_TYPE,
            compute_configuration=codebuild.ComputeConfiguration(
                instance_type=ec2.InstanceType(settings.fleet_instance_type), disk=Size.gibibytes(128)
            ),
            environment_type=codebuild.EnvironmentType.LINUX_CONTAINER,
            overflow_behavior=codebuild.FleetOverflowBehavior.QUEUE,
        )
        if self._network is not None:
            role = iam.Role(
                self,
                "FleetRole",
                assumed_by=service_principal("codebuild.amazonaws.com"),
                inline_policies={"Place": iam.PolicyDocument(statements=build_statements())},
            )
            acknowledge_interfaces(role, builds=True)
            resource = fleet.node.default_child
            assert isinstance(resource, codebuild.CfnFleet)
            resource.fleet_service_role = role.role_arn
            resource.fleet_vpc_config = codebuild.CfnFleet.VpcConfigProperty(
                vpc_id=self._network.vpc.vpc_id,
                # "The maximum number of subnets is 1": CreateFleet refuses more.
                subnets=[self._network.named.subnet_ids[0]],
                security_group_ids=list(self._network.named.security_group_ids),
            )
        return fleet


def build_source(kind: str) -> AssetSource:
    """Return what a build of a kind reads: it scores models with the serving code."""
    kinds = (kind, *KINDS[kind].build_kinds)
    return AssetSource(
        context=".",
        folders=(
            *(f"model_build/{each}" for each in kinds),
            "containers/serving",
            *(f"containers/{each}" for each in kinds),
        ),
        flat=("containers", "model_build"),
    )
