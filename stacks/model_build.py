"""The CodeBuild projects that build the models, and the provider that deployments wait on."""

from dataclasses import dataclass

from aws_cdk import Duration, Size, Stack
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.assets import AssetSource, stage
from stacks.constructs.artifact_writers import service_principal
from stacks.constructs.build_project import BuildProject
from stacks.constructs.built_artifact import ArtifactBuilder
from stacks.constructs.compiled_model import ModelCompiler
from stacks.constructs.private_network import PrivateNetwork, acknowledge_interfaces, build_statements
from stacks.model_build_settings import ModelBuild
from stacks.naming import camel
from stacks.settings import Deployment

_CONTAINERS = {"saved_model": "saved_model"}
"""Folders in `containers/` that are not named like their workload: TensorFlow Serving's image is AWS's own."""
_SHARED = {"neuron_encoder": ("encoder",)}
"""Workloads whose packages a build reads besides its own: where models come from, and their conversion."""
_COMPILED_AHEAD = frozenset({"neuron_encoder"})
"""Builds that want memory for a compiler, 16 GiB and more, and no processor with VNNI: never on the fleet."""


@dataclass(frozen=True, slots=True)
class WorkloadBuild:
    """What a workload stack needs to have its models built, and compiled where its settings have Neo do that."""

    project: codebuild.IProject
    builder: ArtifactBuilder
    source_hash: str
    prefix: str
    compiler: ModelCompiler | None = None


class ModelBuildStack(Stack):
    """One CodeBuild project per workload, on machines whose processor has what the artifacts need."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        artifacts: s3.IBucket,
        key: kms.IKey,
        network: PrivateNetwork | None,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        settings = deployment.model_build
        wants_fleet = settings.compute == "fleet" and any(
            w not in _COMPILED_AHEAD for w in deployment.workloads.enabled
        )
        self._network = network
        fleet = self._fleet(settings) if wants_fleet else None
        sources = {workload: self._source(workload) for workload in deployment.workloads.enabled}
        projects = {
            workload: BuildProject(
                self,
                f"{camel(workload)}Build",
                environment=deployment.environment,
                workload=workload,
                source=source,
                artifacts=artifacts,
                key=key,
                s3_urls=deployment.workloads.enabled[workload].s3_urls,
                fleet=None if workload in _COMPILED_AHEAD else fleet,
                memory=workload in _COMPILED_AHEAD,
                settings=settings,
                network=network,
            ).project
            for workload, source in sources.items()
        }
        builder = ArtifactBuilder(
            self,
            "ArtifactBuilder",
            environment=deployment.environment,
            projects=list(projects.values()),
            artifacts=artifacts,
            key=key,
            prefixes=list(projects),
            total_timeout=Duration.minutes(settings.timeout_minutes + 10),
            network=network,
            retain=deployment.retain_data,
        )
        self.builds = {
            workload: WorkloadBuild(
                project,
                builder,
                sources[workload].asset_hash,
                workload,
                self._compiler(deployment, artifacts, key) if workload == "saved_model" else None,
            )
            for workload, project in projects.items()
        }

    def _compiler(self, deployment: Deployment, artifacts: s3.IBucket, key: kms.IKey) -> ModelCompiler | None:
        saved_model = deployment.workloads.saved_model
        if saved_model is None or not saved_model.compilations:
            return None
        return ModelCompiler(
            self,
            "Compiler",
            environment=deployment.environment,
            artifacts=artifacts,
            key=key,
            workload="saved_model",
            reads_prefix="saved_model/unet",
            prefix="saved_model/neo",
            network=self._network,
            max_runtime_seconds=max(compilation.max_runtime_seconds for compilation in saved_model.compilations),
        )

    def _source(self, workload: str) -> s3_assets.Asset:
        return s3_assets.Asset(self, f"{camel(workload)}Source", path=stage(self, build_source(workload)))

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
                subnets=list(self._network.named.subnet_ids),
                security_group_ids=list(self._network.named.security_group_ids),
            )
        return fleet


def build_source(workload: str) -> AssetSource:
    """What one workload's build reads: it scores models with the serving code."""
    workloads = (workload, *_SHARED.get(workload, ()))
    return AssetSource(
        context=".",
        folders=(
            *(f"model_build/{name}" for name in workloads),
            "containers/serving",
            *(f"containers/{_CONTAINERS.get(name, name)}" for name in workloads),
        ),
        flat=("containers", "model_build"),
    )
