"""Delivery: a push is tested, deployed to dev, load-tested there, manually approved, and deployed to prod."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from aws_cdk import Aws, Duration, Environment, RemovalPolicy, Stack, Stage, pipelines
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge, acknowledge_wildcards
from stacks.constructs.endpoint_alarms import endpoint_alarm_name
from stacks.constructs.log_group import admit_logs, log_group
from stacks.constructs.private_bucket import log_emptying, private_bucket
from stacks.constructs.statements import allow
from stacks.naming import camel
from stacks.settings.deployment import Deployment
from stacks.settings.pipeline import LoadGate, Pipeline, Target, endpoint_names

Compose = Callable[[Construct, Deployment], None]
"""Add a deployment's stacks to a scope: `app.compose`."""
_ROOT = Path(__file__).parents[2]
_ASSETS_CLI = "4.7.3"
"""Version of the CDK's asset publisher; without it, the pipeline would use the newest."""
_RUNTIMES = {"python": "3.11", "nodejs": "20"}
_CHECKS = ("scripts/test tests/unit tests/infrastructure",)
"""Lint, types and every test that needs no AVX-512 VNNI, which not all build machines have."""
_ASKED = ("endpoint", "inference-component")
_GRANTED = (
    "kms:GenerateDataKey*", "kms:ReEncrypt*", "s3:Abort*", "s3:DeleteObject*", "s3:GetBucket*", "s3:GetObject*",
    "s3:List*",
)  # fmt: skip


class PipelineStack(Stack):
    """The pipeline with its key, bucket and logs; if it changed, it first updates itself.

    chosen: value of the context `pipeline` at synth, which the pipeline's own synth uses again.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Pipeline,
        chosen: str,
        dev: Deployment,
        prod: Deployment,
        compose: Compose,
    ) -> None:
        super().__init__(scope, construct_id, env=Environment(account=settings.account, region=settings.region))
        self._settings, self._chosen = settings, chosen
        self._gates: list[tuple[LoadGate, pipelines.CodeBuildStep]] = []
        self._key = kms.Key(
            self,
            "Key",
            description=f"Encrypts the artifacts of the pipeline {settings.name}",
            enable_key_rotation=True,
            pending_window=Duration.days(7),
            removal_policy=RemovalPolicy.DESTROY,
        )
        admit_logs(self._key, (f"{self.stack_name}-*",))
        access_logs = private_bucket(self, "AccessLogs", removal=RemovalPolicy.DESTROY)
        self._artifacts = private_bucket(
            self, "Artifacts", removal=RemovalPolicy.DESTROY, key=self._key, versioned=True, logs=access_logs
        )
        log_emptying(self, key=self._key)
        self._source = pipelines.CodePipelineSource.connection(
            settings.source.repository, settings.source.branch, connection_arn=settings.source.connection_arn
        )
        self._delivery = self._build_pipeline()
        self._delivery.add_stage(
            self._stage(dev, settings.dev, compose), post=[self._gate(test, dev) for test in settings.load_tests]
        )
        # A separate stage: a stage that rolls back repeats its actions, and must not request approval again.
        self._delivery.add_wave("Approval").add_pre(
            pipelines.ManualApprovalStep(
                "Approve",
                comment=f"{dev.environment} is deployed and passed its load tests; {prod.environment} is next",
            )
        )
        self._delivery.add_stage(self._stage(prod, settings.prod, compose))
        self._delivery.build_pipeline()
        self._allow_connection(settings.source.connection_arn)
        self._roll_back(prod)
        self._acknowledge(dev)

    def _build_pipeline(self) -> pipelines.CodePipeline:
        logged = log_group(self, "Logs", key=self._key)
        return pipelines.CodePipeline(
            self,
            "Delivery",
            pipeline_name=self._settings.name,
            pipeline_type=codepipeline.PipelineType.V2,
            artifact_bucket=self._artifacts,
            cli_version=json.loads((_ROOT / "package.json").read_text())["dependencies"]["aws-cdk"],
            cdk_assets_cli_version=_ASSETS_CLI,
            use_pipeline_role_for_actions=True,
            code_build_defaults=pipelines.CodeBuildOptions(
                build_environment=codebuild.BuildEnvironment(build_image=codebuild.LinuxBuildImage.STANDARD_7_0),
                logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=logged)),
                timeout=Duration.hours(2),
            ),
            synth=pipelines.CodeBuildStep(
                "Synth",
                input=self._source,
                commands=[*_CHECKS, shlex.join(["scripts/synth", f"pipeline={self._chosen}"])],
                primary_output_directory="cdk.out",
                partial_build_spec=_runtimes(),
                build_environment=codebuild.BuildEnvironment(compute_type=codebuild.ComputeType.LARGE),
            ),
        )

    def _stage(self, deployment: Deployment, target: Target, compose: Compose) -> Stage:
        """Return a stage with the deployment's stacks, named as `cdk deploy` would name them."""
        stage = Stage(
            self,
            deployment.environment.capitalize(),
            env=Environment(
                account=target.account or self._settings.account,
                region=target.region or deployment.region or self._settings.region,
            ),
        )
        compose(stage, deployment)
        return stage

    def _gate(self, test: LoadGate, dev: Deployment) -> pipelines.CodeBuildStep:
        """Return the step of a load test; the exit code of a failed gate stops the pipeline."""
        role = self._settings.load_test_role_arn
        region = self._settings.dev.region or dev.region or self._settings.region
        assume = [f"aws configure set role_arn {role}", "aws configure set credential_source EcsContainer"]
        step = pipelines.CodeBuildStep(
            "-".join(filter(None, ["LoadTest", camel(test.workload), test.endpoint and camel(test.endpoint)])),
            input=self._source,
            install_commands=assume if role else [],
            commands=[shlex.join(["scripts/load-test", *test.arguments(self._settings.dev.deployment)])],
            env={"AWS_DEFAULT_REGION": region} if region else {},
            partial_build_spec=_runtimes(),
            build_environment=codebuild.BuildEnvironment(compute_type=codebuild.ComputeType.LARGE),
            role_policy_statements=[allow(["sts:AssumeRole"], [role])] if role else _loading(test, dev, region),
        )
        self._gates.append((test, step))
        return step

    def _allow_connection(self, arn: str) -> None:
        """Allow the use of the connection under the service's old and new name; the CDK grants the old one only.

        An action and an ARN must have the same prefix ("Connections rename" in the Developer Tools console guide).
        """
        for prefix in ("codeconnections", "codestar-connections"):
            self._delivery.pipeline.role.add_to_principal_policy(
                allow(
                    [f"{prefix}:UseConnection"],
                    [re.sub(r":(codeconnections|codestar-connections):", f":{prefix}:", arn)],
                )
            )

    def _roll_back(self, prod: Deployment) -> None:
        """Roll prod back if its deployment fails, or if one of its alarms fires soon after."""
        resource = self._delivery.pipeline.node.default_child
        assert isinstance(resource, codepipeline.CfnPipeline)
        index = [stage.stage_name for stage in self._delivery.pipeline.stages].index(prod.environment.capitalize())
        resource.add_property_override(f"Stages.{index}.OnFailure", {"Result": "ROLLBACK"})
        if self._settings.watch_minutes is None:
            return
        region = self._settings.prod.region or prod.region or self._settings.region
        alarms = [endpoint_alarm_name(name) for name in endpoint_names(prod)]
        rules = [
            {
                "Name": f"Watch{number}",
                "RuleTypeId": {"Category": "Rule", "Owner": "AWS", "Provider": "CloudWatchAlarm", "Version": "1"},
                "Configuration": {
                    "AlarmName": alarm,
                    "AlarmStates": "ALARM",
                    "WaitTime": str(self._settings.watch_minutes),
                },
                **({"Region": region} if region else {}),
            }
            for number, alarm in enumerate(alarms, 1)
        ]
        resource.add_property_override(
            f"Stages.{index}.OnSuccess", {"Conditions": [{"Result": "ROLLBACK", "Rules": rules}]}
        )
        role = self._delivery.pipeline.role
        role.add_to_principal_policy(allow(["cloudwatch:DescribeAlarms"], ["*"]))
        acknowledge_wildcards(
            role, ["*"], "DescribeAlarms returns composite alarms only to those who may describe every alarm"
        )

    def _acknowledge(self, dev: Deployment) -> None:
        """Acknowledge cdk-nag's findings in what CDK Pipelines creates by itself, each with its reason."""
        steps = self._delivery.node
        for action in _GRANTED:
            acknowledge(
                self._delivery,
                f"IAM5[Action::{action}]",
                "The CDK's own grant, on the pipeline's bucket and key only, which hold nothing but its artifacts",
            )
        acknowledge_wildcards(
            self._delivery,
            [self._artifacts.arn_for_objects("*")],
            "Objects of the pipeline's own bucket, which CodePipeline names for each execution",
        )
        assets = steps.find_child("Assets")
        published = f"{assets.node.path}/"
        for construct in self._delivery.node.find_all():
            if isinstance(construct, codebuild.Project) and not construct.node.path.startswith(published):
                here = f"{Aws.PARTITION}:%s:{Aws.REGION}:{Aws.ACCOUNT_ID}"
                acknowledge_wildcards(
                    construct,
                    [
                        f"arn:{here % 'logs'}:log-group:/aws/codebuild/{construct.project_name}:*",
                        f"arn:{here % 'codebuild'}:report-group/{construct.project_name}-*",
                    ],
                    "Streams and reports of this one project, by its name; CodeBuild names what follows",
                )
        region = self._settings.dev.region or dev.region or self._settings.region
        for test, step in self._gates if self._settings.load_test_role_arn is None else ():
            acknowledge_wildcards(
                step.project,
                [
                    _stack(test, dev, region),
                    f"{_bucket(dev)}/{test.workload}/*",
                    f"arn:{Aws.PARTITION}:kms:{region or Aws.REGION}:{Aws.ACCOUNT_ID}:key/*",
                ],
                "One stack by its name, and requests in dev's bucket; the key is bound to that bucket by a condition",
            )
        mutation = steps.find_child("UpdatePipeline")
        acknowledge_wildcards(
            mutation,
            ["*", f"arn:*:iam::{Aws.ACCOUNT_ID}:role/*"],
            "Roles of the CDK's bootstrap only, by a condition on their tag; stacks and buckets are listed, not read",
        )
        acknowledge_wildcards(
            assets,
            [
                "*",
                f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/codebuild/*",
                f"arn:{Aws.PARTITION}:codebuild:{Aws.REGION}:{Aws.ACCOUNT_ID}:report-group/*",
            ],
            "Projects that publish share one role, which the CDK gives builds by no name, their logs and reports",
        )


def _runtimes() -> codebuild.BuildSpec:
    return codebuild.BuildSpec.from_object({"phases": {"install": {"runtime-versions": _RUNTIMES}}})


def _loading(test: LoadGate, dev: Deployment, region: str | None) -> list[iam.PolicyStatement]:
    """Return the permissions of a load test: read stack outputs and payloads, and invoke endpoints."""
    here = f"{region or Aws.REGION}:{Aws.ACCOUNT_ID}"
    names = [
        name
        for name in endpoint_names(dev, test.workload)
        if test.endpoint is None or name == dev.endpoint_name(test.workload, test.endpoint)
    ]
    bucket = _bucket(dev)
    key = allow(["kms:Decrypt"], [f"arn:{Aws.PARTITION}:kms:{here}:key/*"])
    key.add_conditions({"ArnLike": {"kms:EncryptionContext:aws:s3:arn": [bucket, f"{bucket}/*"]}})
    return [
        allow(["cloudformation:DescribeStacks"], [_stack(test, dev, region)]),
        allow(
            ["sagemaker:InvokeEndpoint"],
            [f"arn:{Aws.PARTITION}:sagemaker:{here}:{kind}/{name}" for kind in _ASKED for name in names],
        ),
        allow(["s3:GetObject"], [f"{bucket}/{test.workload}/*"]),
        key,
    ]


def _stack(test: LoadGate, dev: Deployment, region: str | None) -> str:
    name = f"{dev.environment.capitalize()}-{camel(test.workload)}"
    return f"arn:{Aws.PARTITION}:cloudformation:{region or Aws.REGION}:{Aws.ACCOUNT_ID}:stack/{name}/*"


def _bucket(dev: Deployment) -> str:
    """Return the ARN of the deployment's artifact bucket, whose name CloudFormation completes."""
    return f"arn:{Aws.PARTITION}:s3:::{dev.environment}-foundation-artifacts*"
