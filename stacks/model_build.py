"""The CodeBuild projects that build the models, and the provider that deployments wait on."""

from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Duration, IgnoreMode, RemovalPolicy, Size, Stack
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.constructs.built_artifact import ArtifactBuilder
from stacks.settings import Deployment, ModelBuild

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class WorkloadBuild:
    """What a workload stack needs to have its models built."""

    project: codebuild.IProject
    builder: ArtifactBuilder
    source_hash: str
    prefix: str


class ModelBuildStack(Stack):
    """One CodeBuild project per workload, on machines whose processor has what the artifacts need."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        artifacts: s3.IBucket,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        settings = deployment.model_build
        workload = "bert_int8"
        source = s3_assets.Asset(
            self,
            "BertInt8Source",
            path=str(ROOT),
            exclude=_only("model_build", "containers", workload),
            ignore_mode=IgnoreMode.GIT,
        )
        project = self._project(workload, settings, source, artifacts)
        builder = ArtifactBuilder(
            self,
            "ArtifactBuilder",
            projects=[project],
            artifacts=artifacts,
            prefixes=[workload],
            total_timeout=Duration.minutes(settings.timeout_minutes + 10),
        )
        self.bert_int8 = WorkloadBuild(project, builder, source.asset_hash, workload)

    def _project(
        self, workload: str, settings: ModelBuild, source: s3_assets.Asset, artifacts: s3.IBucket
    ) -> codebuild.Project:
        fleet = self._fleet(settings) if settings.compute == "fleet" else None
        log_group = logs.LogGroup(
            self, "BertInt8Logs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        project = codebuild.Project(
            self,
            "BertInt8Project",
            description=f"Builds the FP32 and INT8 artifacts of {workload}",
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key),
            build_spec=codebuild.BuildSpec.from_source_filename(f"model_build/{workload}/buildspec.yml"),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=codebuild.ComputeType.LARGE,
                fleet=fleet,
            ),
            environment_variables={
                "ARTIFACT_BUCKET": codebuild.BuildEnvironmentVariable(value=artifacts.bucket_name),
            },
            cache=codebuild.Cache.bucket(artifacts, prefix=f"cache/{workload}"),
            encryption_key=artifacts.encryption_key,
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log_group)),
            timeout=Duration.minutes(settings.timeout_minutes),
        )
        project.add_to_role_policy(
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[artifacts.arn_for_objects(f"{workload}/*")])
        )
        return project

    def _fleet(self, settings: ModelBuild) -> codebuild.Fleet:
        return codebuild.Fleet(
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


def _only(model_build: str, containers: str, workload: str) -> list[str]:
    """Ignore patterns that leave just what one workload's build reads."""
    return [
        "/*",
        f"!/{model_build}",
        f"!/{containers}",
        f"/{model_build}/*/",
        f"!/{model_build}/{workload}",
        f"/{containers}/*/",
        f"!/{containers}/serving",
        f"!/{containers}/{workload}",
        "__pycache__",
        "*.pyc",
    ]
