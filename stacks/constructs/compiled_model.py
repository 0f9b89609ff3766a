"""A model that SageMaker Neo compiles during the deployment, served only after its responses were checked."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import Aws, CustomResource, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.artifact_writers import service_principal, writer_path
from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.handler_function import HandlerProps, handler_function, waiting_provider
from stacks.constructs.images import ServedImage
from stacks.constructs.realtime_endpoint import containers_log_group, volume_key
from stacks.resources import SharedResources
from stacks.settings.neo import FRAMEWORK, NeoCompilation

_HANDLER = Path(__file__).parent / "compiled_model_handler"
_CHECK_MINUTES = 45
"""Time for the endpoint of a check to start, respond and end, with a margin for a large instance."""
_CHECK_RESOURCES = {"Model": "model", "EndpointConfig": "endpoint-config", "Endpoint": "endpoint"}
"""Resources of a check, and their type in an ARN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOn:
    """Where a compiled model's responses are compared with the original's: as it will be served.

    reference_key: S3 key of requests and the original's responses, as model_build.saved_model.reference writes them.
    """

    image: ServedImage
    instance_type: str
    reference_key: str


class ModelCompiler(Construct):
    """The custom resource provider that starts compilations, waits for them and checks their results.

    model: model of the workload whose builds are compiled.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        workload: str,
        model: str,
        max_runtime_seconds: int,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        self.resources, self.artifacts, self.key = resources, resources.artifacts, resources.key
        self.prefix = f"{workload}/neo"
        self.names = f"{environment}-neo-"
        self.role_path = writer_path(environment, workload)
        self._functions = [
            self._function("OnEvent", "index.on_event", None),
            self._function("IsComplete", "index.is_complete", self.role_path),
        ]
        self._allow_objects(f"{workload}/{model}")
        self._allow_jobs_and_checks()
        on_event, is_complete = self._functions
        self.provider = waiting_provider(
            self,
            on_event=on_event,
            is_complete=is_complete,
            total_timeout=Duration.minutes(max_runtime_seconds // 60 + _CHECK_MINUTES),
            key=self.key,
            network=resources.network,
        )

    def allow_passing(self, scope: Construct, roles: Sequence[iam.IRole]) -> iam.Policy:
        """Allow the handler to pass roles to SageMaker, by a policy in the stack of the roles."""
        policy = iam.Policy(
            scope,
            "PassRoles",
            statements=[
                iam.PolicyStatement(
                    actions=["iam:PassRole"],
                    resources=[role.role_arn for role in roles],
                    conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
                )
            ],
        )
        for function in self._functions:
            assert function.role is not None
            policy.attach_to_role(function.role)
        return policy

    def _allow_objects(self, reads_prefix: str) -> None:
        on_event, is_complete = self._functions
        own, read = (self.artifacts.arn_for_objects(f"{prefix}/*") for prefix in (self.prefix, reads_prefix))
        for actions, resources in (
            (["s3:GetObject"], [own, read]),
            (["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"], [own]),
            (["kms:Decrypt", "kms:GenerateDataKey"], [self.key.key_arn]),
        ):
            is_complete.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=resources))
        assert is_complete.role is not None
        acknowledge_wildcards(
            is_complete.role,
            [own, read],
            "what was built and what is compiled of it is named after the hash of its inputs",
        )
        for function, actions in (
            (on_event, ["s3:ListBucket"]),
            (is_complete, ["s3:ListBucket", "s3:ListBucketVersions"]),
        ):
            function.add_to_role_policy(
                iam.PolicyStatement(
                    actions=actions,
                    resources=[self.artifacts.bucket_arn],
                    conditions={"StringLike": {"s3:prefix": [f"{self.prefix}/*"]}},
                )
            )

    def _allow_jobs_and_checks(self) -> None:
        on_event, is_complete = self._functions
        jobs = [_sagemaker_arn(f"compilation-job/{self.names}*")]
        on_event.add_to_role_policy(
            iam.PolicyStatement(
                actions=[
                    "sagemaker:CreateCompilationJob",
                    "sagemaker:DescribeCompilationJob",
                    "sagemaker:StopCompilationJob",
                    "sagemaker:DeleteCompilationJob",
                ],
                resources=jobs,
            )
        )
        is_complete.add_to_role_policy(
            iam.PolicyStatement(
                actions=["sagemaker:DescribeCompilationJob", "sagemaker:DeleteCompilationJob"], resources=jobs
            )
        )
        checks = [_sagemaker_arn(f"{path}/{self.names}*-check") for path in _CHECK_RESOURCES.values()]
        is_complete.add_to_role_policy(
            iam.PolicyStatement(
                actions=[
                    *(f"sagemaker:{verb}{kind}" for verb in ("Create", "Delete") for kind in _CHECK_RESOURCES),
                    "sagemaker:DescribeEndpoint",
                    "sagemaker:InvokeEndpoint",
                ],
                resources=checks,
            )
        )
        for function, resources in ((on_event, jobs), (is_complete, [*jobs, *checks])):
            assert function.role is not None
            acknowledge_wildcards(
                function.role,
                resources,
                "jobs and the endpoints of their checks are named after the deployment and the hash of their inputs",
            )
        # SageMaker creates a grant on the key for the check's instances as the principal that creates the endpoint.
        is_complete.add_to_role_policy(
            iam.PolicyStatement(
                actions=["kms:CreateGrant"],
                resources=[self.key.key_arn],
                conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        )

    def _function(self, construct_id: str, handler: str, role_path: str | None) -> lambda_.Function:
        return handler_function(
            self,
            construct_id,
            props=HandlerProps(
                folder=_HANDLER,
                handler=handler,
                timeout=Duration.minutes(10),
                memory_mib=1024,
                role_path=role_path,
            ),
            key=self.key,
            network=self.resources.network,
        )


class CompiledModel(Construct):
    """One compilation's result, under a key prefix with the hash of its inputs and target.

    Unchanged inputs are never compiled again. Without `check`, only the archive is compared, because nothing can run it
    here.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        compiler: ModelCompiler,
        built: BuiltArtifact,
        model: str,
        inputs: Mapping[str, Sequence[int]],
        settings: NeoCompilation,
        check: CheckedOn | None,
    ) -> None:
        super().__init__(scope, construct_id)
        job: dict[str, Any] = {
            "InputConfig": {
                "DataInputConfig": json.dumps({name: list(shape) for name, shape in inputs.items()}),
                "Framework": FRAMEWORK,
                "FrameworkVersion": settings.version.api,
            },
            "OutputConfig": settings.output_request(),
        }
        # The job's name covers the build and the endpoint: endpoints with equal settings get separate jobs, so deleting
        # one keeps the other's model.
        identity = json.dumps([built.digest, construct_id, model, job], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
        self._compiler, self._name = compiler, f"{compiler.names}{digest}"
        prefix = f"{compiler.prefix}/{digest}"
        model_key = built.model_key(model)
        bucket = compiler.artifacts.bucket_name
        job["InputConfig"]["S3Uri"] = f"s3://{bucket}/{model_key}"
        job["OutputConfig"] |= {"S3OutputLocation": f"s3://{bucket}/{prefix}/", "KmsKeyId": compiler.key.key_arn}
        roles = [self._compilation_role(model_key, prefix)]
        job |= {
            "RoleArn": roles[0].role_arn,
            "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_runtime_seconds},
        }
        properties = {
            "JobName": self._name,
            "Bucket": bucket,
            "Prefix": prefix,
            "ModelKey": model_key,
            "Job": self._json(job),
        }
        needed: list[Construct] = []
        if check is not None:
            needed.append(containers_log_group(self, "CheckLogs", f"Endpoints/{self._name}-check", compiler.key))
            roles.append(self._check_role(check, prefix))
            properties["Check"] = self._json(self._check(check, settings, roles[-1]))
        needed.append(compiler.allow_passing(self, roles))
        resource = CustomResource(
            self,
            "Resource",
            resource_type="Custom::CompiledModel",
            service_token=compiler.provider.service_token,
            properties=properties,
        )
        resource.node.add_dependency(*needed)
        self.key = resource.get_att_string("Key")
        self.verification = resource.get_att_string("Verification")

    def _check_role(self, check: CheckedOn, prefix: str) -> iam.Role:
        return execution_role(
            self,
            "CheckRole",
            endpoints=[ServedEndpoint(name=f"{self._name}-check", alarm_names=[])],
            artifacts=prefix,
            image_repository_arn=check.image.repository_arn,
            resources=self._compiler.resources,
        )

    def _check(self, check: CheckedOn, settings: NeoCompilation, role: iam.IRole) -> dict[str, Any]:
        made: dict[str, Any] = {
            "Name": f"{self._name}-check",
            "Image": check.image.uri,
            "InstanceType": check.instance_type,
            "RoleArn": role.role_arn,
            "ReferenceKey": check.reference_key,
            "MeanDifference": settings.tolerance.mean_difference,
            "ChangedPixels": settings.tolerance.changed_pixels,
        }
        volume = volume_key([check.instance_type], self._compiler.key)
        if volume is not None:
            made["KmsKeyId"] = volume
        vpc = self._compiler.resources.vpc
        if vpc is not None:
            made["VpcConfig"] = {"Subnets": list(vpc.subnet_ids), "SecurityGroupIds": list(vpc.security_group_ids)}
        return made

    def _compilation_role(self, model_key: str, prefix: str) -> iam.Role:
        """Return the role that Neo assumes: it reads one archive, writes under one prefix, and logs."""
        artifacts, key = self._compiler.artifacts, self._compiler.key
        group = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/sagemaker/CompilationJobs"
        streams, written = f"{group}:log-stream:*", artifacts.arn_for_objects(f"{prefix}/*")
        statements = [
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[artifacts.arn_for_objects(model_key)]),
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[written]),
            iam.PolicyStatement(actions=["s3:GetBucketLocation"], resources=[artifacts.bucket_arn]),
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[artifacts.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [model_key, f"{prefix}/*"]}},
            ),
            iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key.key_arn]),
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                resources=[group, streams],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}},
            ),
        ]
        role = iam.Role(
            self,
            "CompilationRole",
            assumed_by=service_principal("sagemaker.amazonaws.com"),
            path=self._compiler.role_path,
            inline_policies={"Compile": iam.PolicyDocument(statements=statements)},
        )
        acknowledge_wildcards(role, [written], "Neo names its output; the prefix is that of one compilation")
        acknowledge_wildcards(role, [streams], "every job logs to this one group, in a stream that SageMaker names")
        acknowledge_wildcards(
            role, ["*"], "cloudwatch:PutMetricData has no resource in IAM; it is bound to SageMaker's namespaces"
        )
        return role

    def _json(self, value: Any) -> str:
        """Return JSON in one string, because CloudFormation turns numbers in nested properties into strings."""
        return Stack.of(self).to_json_string(value)


def _sagemaker_arn(resource: str) -> str:
    return f"arn:{Aws.PARTITION}:sagemaker:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"
