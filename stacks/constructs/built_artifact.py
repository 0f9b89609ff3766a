"""A model artifact that CodeBuild builds inside the deployment, once per set of inputs."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import CustomResource, Duration, RemovalPolicy
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from containers.serving.contract import ARCHIVE_HASH_VARIABLE, MANIFEST_HASH_VARIABLE
from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.artifact_writers import EMPTYING, writer_path
from stacks.constructs.handler_function import HandlerProps, handler_function, waiting_provider
from stacks.constructs.statements import allow
from stacks.naming import camel
from stacks.resources import SharedResources

_HANDLER = Path(__file__).parent / "built_artifact_handler"
_WAIT_MINUTES = 55
"""How long each custom resource waits for a build: _WAIT_SECONDS of the handler."""
_RESOURCE_TIMEOUT = Duration.minutes(58)


class ArtifactBuilder(Construct):
    """The custom resource provider that starts builds and waits for them.

    It may also remove the artifacts of workloads that the deployment no longer has, whose stacks are deleted last.

    build_minutes: the most that a build takes, its time in the queue included. As many custom resources wait for it as
    that takes, since CloudFormation gives each of them an hour.
    retain: whether what was built stays when nothing serves it any more, and when its stack is destroyed.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        projects: Sequence[codebuild.IProject],
        build_minutes: int,
        retain: bool,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        artifacts, key, network = resources.artifacts, resources.key, resources.network
        self._key, self._network = key, network
        self.waits = math.ceil(build_minutes / _WAIT_MINUTES)
        # A build that failed has left nothing to keep.
        self.removal = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if retain else RemovalPolicy.DESTROY
        on_event = self._function("OnEvent", "index.on_event", writer_path(environment, EMPTYING))
        is_complete = self._function("IsComplete", "index.is_complete")
        project_arns = [project.project_arn for project in projects]
        on_event.add_to_role_policy(iam.PolicyStatement(actions=["codebuild:StartBuild"], resources=project_arns))
        is_complete.add_to_role_policy(
            iam.PolicyStatement(actions=["codebuild:BatchGetBuilds"], resources=project_arns)
        )
        objects = [artifacts.arn_for_objects("*")]
        list_objects = allow(["s3:ListBucket", "s3:ListBucketVersions"], [artifacts.bucket_arn])
        on_event.add_to_role_policy(list_objects)
        on_event.add_to_role_policy(
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:DeleteObject", "s3:DeleteObjectVersion"], resources=objects
            )
        )
        is_complete.add_to_role_policy(list_objects)
        is_complete.add_to_role_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=objects))
        for function in (on_event, is_complete):
            function.add_to_role_policy(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key.key_arn]))
            assert function.role is not None
            acknowledge_wildcards(
                function.role,
                objects,
                "the artifacts of every workload, past ones included: a build's files are found under the hash of its "
                "inputs, and removed there when nothing serves them any more",
            )
        self.provider = waiting_provider(
            self, on_event=on_event, is_complete=is_complete, total_timeout=_RESOURCE_TIMEOUT, key=key, network=network
        )

    def _function(self, construct_id: str, handler: str, role_path: str | None = None) -> lambda_.Function:
        return handler_function(
            self,
            construct_id,
            props=HandlerProps(
                folder=_HANDLER,
                handler=handler,
                timeout=Duration.minutes(5),
                memory_mib=256,
                role_path=role_path,
            ),
            key=self._key,
            network=self._network,
        )


@dataclass(frozen=True, slots=True)
class WorkloadBuild:
    """What a workload's stack needs to have its models built.

    source_hash: of everything that a build reads. prefix: of the workload's keys in the artifact bucket.
    """

    project: codebuild.IProject
    builder: ArtifactBuilder
    source_hash: str
    prefix: str


class BuiltArtifact(Construct):
    """The result of one build, under `<workload>/<name>/<hash of its inputs>/`.

    Unchanged source and recipe never build again. A change always does, and gives another S3 key, so that SageMaker
    sees it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        build: WorkloadBuild,
        name: str,
        recipe: str,
        artifacts: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        self.digest = hashlib.sha256(f"{build.source_hash}\n{recipe}".encode()).hexdigest()[:24]
        properties = {
            "ProjectName": build.project.project_name,
            "Bucket": artifacts.bucket_name,
            "Prefix": f"{build.prefix}/{name}/{self.digest}",
        }
        self._resource = CustomResource(
            self,
            "Resource",
            resource_type="Custom::BuiltArtifact",
            service_token=build.builder.provider.service_token,
            removal_policy=build.builder.removal,
            properties={**properties, "Recipe": recipe, "WaitsOn": _text(build.builder.waits > 1)},
        )
        for number in range(2, build.builder.waits + 1):
            self._resource = CustomResource(
                self,
                f"Wait{number}",
                resource_type="Custom::BuildWait",
                service_token=build.builder.provider.service_token,
                properties={
                    **properties,
                    "BuildId": self._resource.get_att_string("BuildId"),
                    "WaitsOn": _text(number < build.builder.waits),
                },
            )
        self.bucket = artifacts
        self.prefix = self._resource.get_att_string("Prefix")

    def model_key(self, name: str) -> str:
        """S3 key of one of the build's archives."""
        return self.key(f"{name}/model.tar.gz")

    def hashes(self, name: str) -> dict[str, str]:
        """Return the container environment that holds one of the build's archives to what the build reported."""
        return {
            ARCHIVE_HASH_VARIABLE: self._resource.get_att_string(f"{camel(name)}Sha256"),
            MANIFEST_HASH_VARIABLE: self._resource.get_att_string(f"{camel(name)}ManifestSha256"),
        }

    def key(self, name: str) -> str:
        """S3 key of one of the build's files, or key prefix of one of its folders."""
        return f"{self.prefix}/{name}"


def _text(value: bool) -> str:
    """Return a truth value as CloudFormation passes it on."""
    return str(value).lower()
