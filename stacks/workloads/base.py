"""The part of a workload's stack that all kinds share."""

import shlex
from typing import Generic, TypeVar

from aws_cdk import Annotations, CfnOutput
from constructs import Construct

from dashboards.body import Row
from stacks.constructs.built_artifact import BuiltArtifact, WorkloadBuild
from stacks.constructs.dashboard import workload_dashboard
from stacks.resources import DeploymentStack, SharedResources
from stacks.settings.deployment import Deployment
from stacks.settings.workload import Workload

Kind = TypeVar("Kind", bound=Workload)


class WorkloadStack(DeploymentStack, Generic[Kind]):
    """Builds what a workload's settings name, serves it, and shows it on a dashboard.

    A kind implements `serve`. Workloads share an account, so every named resource takes its name from `endpoint_name`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        name: str,
        settings: Kind,
        build: WorkloadBuild,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        self.deployment, self.workload, self.settings = deployment, name, settings
        self.models, self.resources = build, resources
        rows = self.serve()
        workload_dashboard(self, deployment=deployment, workload=name, rows=rows)

    def serve(self) -> list[Row]:
        """Add builds, models and endpoints; return dashboard rows that precede those of the SageMaker endpoints."""
        raise NotImplementedError

    def endpoint_name(self, key: str) -> str:
        """Return the name of the endpoint of that key."""
        return self.deployment.endpoint_name(self.workload, key)

    def build(self, construct_id: str, name: str, recipe: str) -> BuiltArtifact:
        """Build the model of a recipe; name: name of the model, the prefix of its keys in the artifact bucket."""
        return BuiltArtifact(
            self, construct_id, build=self.models, name=name, recipe=recipe, artifacts=self.resources.artifacts
        )

    def warn(self, scope: Construct, name: str, warnings: list[str] | tuple[str, ...]) -> None:
        """Print warnings at synth; name: prefix that keeps warning IDs unique."""
        for number, warning in enumerate(warnings):
            Annotations.of(scope).add_warning_v2(f"{self.workload.replace('_', '-')}:{name}-{number}", warning)

    def output(self, key: str, value: str) -> None:
        """Add a stack output."""
        CfnOutput(self, key, value=value)

    def output_artifacts(self, built: BuiltArtifact, key: str = "Artifacts") -> None:
        """Add a stack output with the URL below which a build's files are."""
        self.output(key, f"s3://{self.resources.artifacts.bucket_name}/{built.prefix}/")


def invoke_command(endpoint: str, content_type: str, body: str, **targets: str) -> str:
    """Return the AWS CLI command that sends one request to an endpoint, for a shell and both versions of the AWS CLI.

    The body comes from a file, which neither version decodes. Version 2 reads text on the command line as base64,
    unless it gets an option that version 1 lacks.

    targets: further options of `invoke-endpoint`, with underscores for dashes.
    """
    options = "".join(f"--{option.replace('_', '-')} {value} " for option, value in targets.items())
    return (
        f"printf %s {shlex.quote(body)} | aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint} {options}"
        f"--content-type {content_type} --body fileb:///dev/stdin /dev/stdout"
    )
