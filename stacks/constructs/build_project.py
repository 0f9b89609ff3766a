"""A CodeBuild project that builds one workload's artifacts, with a least-privilege role."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Aws, Duration
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.artifact_writers import service_principal, writer_path
from stacks.constructs.log_group import log_group
from stacks.constructs.private_network import acknowledge_interfaces, build_statements
from stacks.constructs.statements import allow
from stacks.resources import SharedResources
from stacks.settings.model_build import ModelBuild, code_artifact

CACHE_RECORD = "build-cache.json"
"""Below a workload's prefix: hashes of what its last build left in its cache (model_build/package_index.sh)."""
_KEY_ACTIONS = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""Actions of CodeBuild on a project's key ("Encrypt build outputs using a customer managed key" in its user guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWorkload:
    """What a project builds.

    source: the asset with the build's code. s3_urls: objects and prefixes of other buckets that recipes read.
    compiles_ahead: the build runs a compiler that needs memory.
    """

    name: str
    kind: str
    source: s3_assets.Asset
    s3_urls: Sequence[str]
    compiles_ahead: bool


class BuildProject(Construct):
    """The project, its log group and its role.

    The CDK's own grants would let a build list and read more than its source, and write reports, which it never does.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        workload: BuiltWorkload,
        fleet: codebuild.Fleet | None,
        settings: ModelBuild,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        source, artifacts, key, network = workload.source, resources.artifacts, resources.key, resources.network
        logged = log_group(self, "Logs", key=key)
        self._cached = cache_prefix(workload.name)
        self._role_path = writer_path(environment, workload.name)
        # Builds on a fleet run in the fleet's network.
        own_network = network if fleet is None else None
        placing = [] if own_network is None else build_statements()
        self.role = self._build_role(workload, resources, logged, placing)
        self.project = codebuild.Project(
            self,
            "Project",
            description=f"Builds the artifacts of {workload.name}",
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key),
            build_spec=codebuild.BuildSpec.from_source_filename(f"model_build/{workload.kind}/buildspec.yml"),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=codebuild.ComputeType.X_LARGE if workload.compiles_ahead else codebuild.ComputeType.LARGE,
                fleet=fleet,
            ),
            environment_variables={
                "ARTIFACT_BUCKET": codebuild.BuildEnvironmentVariable(value=artifacts.bucket_name),
                **self._packages(settings),
            },
            encryption_key=key,
            grant_report_group_permissions=False,
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=logged)),
            role=self.role.without_policy_updates(),
            timeout=Duration.minutes(settings.timeout_minutes),
            queued_timeout=Duration.minutes(settings.queue_minutes),
        )
        self._prepare(settings)
        resource = self.project.node.default_child
        assert isinstance(resource, codebuild.CfnProject)
        # Use the ARN: the role's name omits its path, so CodeBuild would not find the role.
        resource.service_role = self.role.role_arn
        # Keeps the build's environments and finished steps; CDK's own cache would grant the whole bucket.
        resource.cache = codebuild.CfnProject.ProjectCacheProperty(
            type="S3", location=f"{artifacts.bucket_name}/{self._cached}"
        )
        if own_network is not None:
            acknowledge_interfaces(self.role, builds=True)
            resource.vpc_config = codebuild.CfnProject.VpcConfigProperty(
                vpc_id=own_network.vpc.vpc_id,
                subnets=list(own_network.named.subnet_ids),
                security_group_ids=list(own_network.named.security_group_ids),
            )

    def _packages(self, settings: ModelBuild) -> dict[str, codebuild.BuildEnvironmentVariable]:
        """Return variables with the package index and the Hub token's secret; neither value is a secret."""
        given = {}
        if settings.package_index is not None:
            given["PACKAGE_INDEX"] = codebuild.BuildEnvironmentVariable(value=settings.package_index)
        if settings.hub_token_secret is not None:
            given["HF_TOKEN"] = codebuild.BuildEnvironmentVariable(
                type=codebuild.BuildEnvironmentVariableType.SECRETS_MANAGER, value=settings.hub_token_secret
            )
        return given

    def _prepare(self, settings: ModelBuild) -> None:
        """Allow the build to read its packages and token, if configured."""
        if settings.hub_token_secret is not None:
            self.role.add_to_principal_policy(allow(["secretsmanager:GetSecretValue"], [settings.hub_token_secret]))
        repository = code_artifact(settings.package_index or "")
        if repository is None:
            return
        prefix = f"arn:{Aws.PARTITION}:codeartifact:{repository['region']}:{repository['owner']}"
        domain = repository["domain"]
        self.role.add_to_principal_policy(allow(["codeartifact:GetAuthorizationToken"], [f"{prefix}:domain/{domain}"]))
        self.role.add_to_principal_policy(
            allow(["codeartifact:ReadFromRepository"], [f"{prefix}:repository/{domain}/{repository['repository']}"])
        )
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["sts:GetServiceBearerToken"],
                resources=["*"],
                conditions={"StringEquals": {"sts:AWSServiceName": "codeartifact.amazonaws.com"}},
            )
        )
        acknowledge_wildcards(
            self.role, ["*"], "sts:GetServiceBearerToken has no resource in IAM; it is bound to CodeArtifact's tokens"
        )

    def _build_role(
        self,
        workload: BuiltWorkload,
        resources: SharedResources,
        logged: logs.LogGroup,
        placing: Sequence[iam.PolicyStatement],
    ) -> iam.Role:
        artifacts, source, s3_urls = resources.artifacts, workload.source, workload.s3_urls
        own, cache = (artifacts.arn_for_objects(f"{name}/*") for name in (workload.name, self._cached))
        read = [foreign_objects(url) for url in s3_urls]
        statements = [
            allow(["logs:CreateLogStream", "logs:PutLogEvents"], [logged.log_group_arn]),
            allow(["s3:GetObject", "s3:GetObjectVersion"], [source.bucket.arn_for_objects(source.s3_object_key)]),
            allow(["s3:PutObject"], [own]),
            allow(["s3:GetObject"], [artifacts.arn_for_objects(f"{workload.name}/{CACHE_RECORD}")]),
            allow(["s3:GetObject", "s3:PutObject"], [artifacts.arn_for_objects(self._cached), cache]),
            allow(["s3:GetBucketAcl", "s3:GetBucketLocation"], [artifacts.bucket_arn]),
            allow(list(_KEY_ACTIONS), [resources.key.key_arn]),
            *(allow(["s3:GetObject"], objects) for objects in read),
            *(_listing(url) for url in s3_urls),
            *placing,
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=service_principal("codebuild.amazonaws.com"),
            path=self._role_path,
            inline_policies={"Build": iam.PolicyDocument(statements=statements)},
        )
        acknowledge_wildcards(
            role,
            [own, cache],
            "a build's output is named after the hash of its inputs, below the prefix of its workload",
        )
        acknowledge_wildcards(
            role,
            [folder for _, folder in read],
            "the recipe names a folder of a bucket that others own, and a build reads all of it",
        )
        return role


def cache_prefix(workload: str) -> str:
    """Return the key prefix under which CodeBuild keeps a workload's environments and finished steps."""
    return f"cache/{workload}"


def foreign_objects(url: str) -> list[str]:
    """Return the ARNs of an object, and of its contents in case it is a folder."""
    arn = f"arn:{Aws.PARTITION}:s3:::{url.removeprefix('s3://').rstrip('/')}"
    return [arn, f"{arn}/*"]


def _listing(url: str) -> iam.PolicyStatement:
    bucket, _, key = url.removeprefix("s3://").rstrip("/").partition("/")
    return iam.PolicyStatement(
        actions=["s3:ListBucket"],
        resources=[f"arn:{Aws.PARTITION}:s3:::{bucket}"],
        conditions={"StringLike": {"s3:prefix": [key, f"{key}/*"]}},
    )
