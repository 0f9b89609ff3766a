"""The endpoints of bert_int8: FP32 and INT8 from one image, and the C5 baseline."""

from pathlib import Path

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps
from stacks.model_build import WorkloadBuild
from stacks.settings import BertInt8, Deployment

WORKLOAD = "bert_int8"
CONTAINERS = Path(__file__).parents[1] / "containers"


class BertInt8Stack(Stack):
    """Builds the models of the settings and serves them."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: BertInt8,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        images = {
            engine: ecr_assets.DockerImageAsset(
                self,
                f"{_camel(engine)}Image",
                directory=str(CONTAINERS),
                file=f"{WORKLOAD}/Dockerfile",
                build_args={"ENGINE": engine},
                exclude=["*", "!__init__.py", "!serving", f"!{WORKLOAD}", "**/__pycache__", "**/*.pyc"],
                platform=ecr_assets.Platform.LINUX_AMD64,
            )
            for engine in sorted({recipe.engine for recipe in settings.models.values()})
        }
        built = {
            name: BuiltArtifact(
                self,
                f"Artifact{_camel(name)}",
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
            CfnOutput(self, f"{_camel(name)}Artifacts", value=f"s3://{artifacts.bucket_name}/{artifact.prefix}/")
        for endpoint_key, endpoint in settings.endpoints.items():
            name = deployment.endpoint_name(WORKLOAD, endpoint_key)
            RealtimeEndpoint(
                self,
                _camel(endpoint_key),
                endpoint_name=name,
                settings=endpoint,
                variants=[
                    VariantProps(
                        name=variant_name,
                        model_key=built[endpoint.model].model_key(variant.precision),
                        instance_type=variant.instance_type,
                        instance_count=variant.instance_count,
                        weight=variant.weight,
                    )
                    for variant_name, variant in endpoint.enabled_variants.items()
                ],
                image=images[settings.models[endpoint.model].engine],
                artifacts=artifacts,
                key=key,
                alerts=alerts,
                vpc=deployment.vpc,
            )
            CfnOutput(self, f"{_camel(endpoint_key)}EndpointName", value=name)
            CfnOutput(
                self,
                f"{_camel(endpoint_key)}Invoke",
                value=_invoke_command(name, next(iter(endpoint.enabled_variants))),
            )


def _camel(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("_"))


def _invoke_command(endpoint: str, variant: str) -> str:
    return (
        f"aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint} --target-variant {variant} "
        "--content-type application/json --cli-binary-format raw-in-base64-out "
        """--body '{"question": "Where?", "context": "It is in Rome."}' /dev/stdout"""
    )
