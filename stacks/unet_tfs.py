"""The endpoints of unet_tfs: one U-Net by TensorFlow Serving and by OpenVINO, side by side."""

from aws_cdk import Annotations, CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import hosted_model
from stacks.constructs.inference_component import ComponentEndpoint, component_name
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps, capture_prefix
from stacks.images import ServedImage, container_image, tensorflow_serving_image
from stacks.model_build import WorkloadBuild
from stacks.naming import camel
from stacks.settings import ONLY_VARIANT, Deployment, UnetTfs

WORKLOAD = "unet_tfs"


class UnetTfsStack(Stack):
    """Builds the U-Net of the settings and serves it from every endpoint's own server."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: UnetTfs,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        images = {server: self._image(server) for server in sorted({e.server for e in settings.endpoints.values()})}
        built = BuiltArtifact(
            self,
            "Artifact",
            builder=build.builder,
            project=build.project,
            artifacts=artifacts,
            prefix=f"{build.prefix}/unet",
            source_hash=build.source_hash,
            recipe=settings.recipe.model_dump_json(),
        )
        CfnOutput(self, "Artifacts", value=f"s3://{artifacts.bucket_name}/{built.prefix}/")
        for endpoint_key, endpoint in settings.endpoints.items():
            name = deployment.endpoint_name(WORKLOAD, endpoint_key)
            image = images[endpoint.server]
            model_key = built.model_key(endpoint.artifact)
            role = execution_role(
                self,
                f"{camel(endpoint_key)}Role",
                endpoints=[
                    ServedEndpoint(
                        name=name,
                        alarm_names=alarm_names(name, [ONLY_VARIANT], multi_model=False),
                        capture_prefix=capture_prefix(name) if endpoint.data_capture else None,
                        component=component_name(name) if endpoint.inference_component else None,
                    )
                ],
                model_keys=[model_key],
                image_repository_arn=image.repository_arn,
                artifacts=artifacts,
                key=key,
                vpc=deployment.vpc,
            )
            model = hosted_model(
                self,
                f"{camel(endpoint_key)}Model",
                image_uri=image.uri,
                model_key=model_key,
                role=role,
                artifacts=artifacts,
                vpc=deployment.vpc,
                environment=endpoint.knobs.environment() if endpoint.server == "tensorflow_serving" else None,
            )
            variant = VariantProps(
                name=ONLY_VARIANT,
                model=model,
                instance_type=endpoint.instance_type,
                instance_count=endpoint.instance_count,
            )
            served: Construct
            if endpoint.inference_component is None:
                served = RealtimeEndpoint(
                    self,
                    camel(endpoint_key),
                    endpoint_name=name,
                    variants=[variant],
                    alarms=endpoint.alarms,
                    scaling=endpoint.scaling,
                    guardrails=endpoint.guardrails,
                    data_capture=endpoint.data_capture,
                    artifacts=artifacts,
                    key=key,
                    alerts=alerts,
                )
            else:
                served = ComponentEndpoint(
                    self,
                    camel(endpoint_key),
                    endpoint_name=name,
                    variant=variant,
                    component=endpoint.inference_component,
                    role=role,
                    vpc=deployment.vpc,
                    alarms=endpoint.alarms,
                    scaling=endpoint.scaling,
                    guardrails=endpoint.guardrails,
                    data_capture=endpoint.data_capture,
                    artifacts=artifacts,
                    key=key,
                    alerts=alerts,
                )
                CfnOutput(self, f"{camel(endpoint_key)}InferenceComponentName", value=component_name(name))
            for number, warning in enumerate(endpoint.warnings(inference_script=settings.recipe.png_signature)):
                Annotations.of(served).add_warning_v2(f"unet-tfs:without-effect-{number}", warning)
            CfnOutput(self, f"{camel(endpoint_key)}EndpointName", value=name)

    def _image(self, server: str) -> ServedImage:
        if server == "tensorflow_serving":
            return tensorflow_serving_image(self, "TensorFlowServingImage")
        return container_image(self, "OpenVinoImage", workload="unet_openvino")
