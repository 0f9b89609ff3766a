"""The endpoints of encoder: FP32 and INT8 from one image, and the C5 baseline."""

from aws_cdk import Annotations, CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.dashboard import workload_dashboard
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import hosted_model
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps, capture_prefix
from stacks.images import container_image
from stacks.model_build import WorkloadBuild
from stacks.naming import camel
from stacks.settings import Deployment, Encoder

WORKLOAD = "encoder"


class EncoderStack(Stack):
    """Builds the models of the settings and serves them."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: Encoder,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        images = {
            engine: container_image(
                self,
                f"{camel(engine)}Image",
                deployment=deployment,
                workload=WORKLOAD,
                build_args={"ENGINE": engine},
            )
            for engine in sorted({recipe.engine for recipe in settings.models.values()})
        }
        built = {
            name: BuiltArtifact(
                self,
                f"Artifact{camel(name)}",
                builder=build.builder,
                project=build.project,
                artifacts=artifacts,
                prefix=f"{build.prefix}/{name}",
                source_hash=build.source_hash,
                recipe=recipe.model_dump_json(),
            )
            for name, recipe in settings.models.items()
        }
        for name, artifact in built.items():
            for number, warning in enumerate(settings.models[name].warnings):
                Annotations.of(artifact).add_warning_v2(f"encoder:{name}-{number}", warning)
            CfnOutput(self, f"{camel(name)}Artifacts", value=f"s3://{artifacts.bucket_name}/{artifact.prefix}/")
        for endpoint_key, endpoint in settings.endpoints.items():
            name = deployment.endpoint_name(WORKLOAD, endpoint_key)
            image = images[settings.models[endpoint.model].engine]
            variants = endpoint.enabled_variants
            keys = {
                precision: built[endpoint.model].model_key(precision)
                for precision in sorted({variant.precision for variant in variants.values()})
            }
            role = execution_role(
                self,
                f"{camel(endpoint_key)}Role",
                endpoints=[
                    ServedEndpoint(
                        name=name,
                        alarm_names=alarm_names(name, list(variants), multi_model=False),
                        capture_prefix=capture_prefix(name) if endpoint.data_capture else None,
                    )
                ],
                model_keys=list(keys.values()),
                image_repository_arn=image.repository_arn,
                artifacts=artifacts,
                key=key,
                vpc=deployment.vpc,
            )
            models = {
                precision: hosted_model(
                    self,
                    f"{camel(endpoint_key)}{precision.capitalize()}Model",
                    image_uri=image.uri,
                    model_key=model_key,
                    role=role,
                    artifacts=artifacts,
                    vpc=deployment.vpc,
                    environment=built[endpoint.model].hashes(precision),
                )
                for precision, model_key in keys.items()
            }
            RealtimeEndpoint(
                self,
                camel(endpoint_key),
                endpoint_name=name,
                variants=[
                    VariantProps(
                        name=variant_name,
                        model=models[variant.precision],
                        instance_type=variant.instance_type,
                        instance_count=variant.instance_count,
                        weight=variant.weight,
                        shadow=variant.shadow,
                    )
                    for variant_name, variant in variants.items()
                ],
                alarms=endpoint.alarms,
                scaling=endpoint.scaling,
                guardrails=endpoint.guardrails,
                data_capture=endpoint.data_capture,
                artifacts=artifacts,
                key=key,
                alerts=alerts,
            )
            CfnOutput(self, f"{camel(endpoint_key)}EndpointName", value=name)
            CfnOutput(
                self,
                f"{camel(endpoint_key)}Invoke",
                value=_invoke_command(name, next(iter(endpoint.production_variants))),
            )
        workload_dashboard(self, deployment=deployment, workload=WORKLOAD)


def _invoke_command(endpoint: str, variant: str) -> str:
    return (
        f"aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint} --target-variant {variant} "
        "--content-type application/json --cli-binary-format raw-in-base64-out "
        """--body '{"question": "Where?", "context": "It is in Rome."}' /dev/stdout"""
    )
