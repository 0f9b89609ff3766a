"""The endpoints of saved_model: one U-Net by TensorFlow Serving, by Neo and by OpenVINO, side by side."""

import re
from pathlib import Path

from aws_cdk import Annotations, CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME
from model_build import saved_model
from model_build.saved_model.reference import REFERENCE_FILE
from sizing.instances import instance
from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.compiled_model import CheckedOn, CompiledModel, ModelCompiler
from stacks.constructs.dashboard import workload_dashboard
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import hosted_model
from stacks.constructs.inference_component import ComponentEndpoint
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps, capture_prefix
from stacks.images import ServedImage, container_image, neo_tensorflow_image, tensorflow_serving_image
from stacks.model_build import WorkloadBuild
from stacks.naming import camel, component_name, tuning_endpoint_name
from stacks.neo import NeoCompilation
from stacks.settings import ONLY_VARIANT, Deployment, SavedModel, UnetEndpoint

WORKLOAD = "saved_model"


class SavedModelStack(Stack):
    """Builds the U-Net of the settings and serves it from every endpoint's own server."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: SavedModel,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        self._deployment = deployment
        self._images: dict[str, ServedImage] = {}
        for endpoint in sorted(settings.endpoints.values(), key=lambda one: one.server):
            self._image(endpoint)
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
            image = self._image(endpoint)
            model_key, hashes = built.model_key(endpoint.artifact), built.hashes(endpoint.artifact)
            if endpoint.neo is not None and build.compiler is not None:
                checked_on = CheckedOn(
                    image=image,
                    instance_type=endpoint.instance_type,
                    reference_key=built.key(REFERENCE_FILE),
                    vpc=deployment.vpc,
                )
                # Neo writes an archive of its own, whose hash no build reports.
                model_key = self._compiled(endpoint_key, endpoint.neo, settings, build.compiler, built, checked_on).key
                hashes = {}
            role = execution_role(
                self,
                f"{camel(endpoint_key)}Role",
                endpoints=[
                    ServedEndpoint(
                        name=name,
                        alarm_names=alarm_names(name, [ONLY_VARIANT], multi_model=False),
                        capture_prefix=capture_prefix(name) if endpoint.data_capture else None,
                        component=component_name(name) if endpoint.inference_component else None,
                    ),
                    # `inference tune` serves the same model beside it, by the same role.
                    *([ServedEndpoint(name=tuning_endpoint_name(name), alarm_names=[])] if endpoint.tunable else []),
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
                environment={**endpoint.environment(), **hashes},
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
                Annotations.of(served).add_warning_v2(f"saved-model:without-effect-{number}", warning)
            CfnOutput(self, f"{camel(endpoint_key)}EndpointName", value=name)

        for device_key, device in settings.compiled_for_devices.items():
            if build.compiler is not None:
                self._compiled(f"{device_key}_device", device, settings, build.compiler, built, None)
        workload_dashboard(self, deployment=deployment, workload=WORKLOAD)

    def _compiled(
        self,
        name: str,
        compilation: NeoCompilation,
        settings: SavedModel,
        compiler: ModelCompiler,
        built: BuiltArtifact,
        check: CheckedOn | None,
    ) -> CompiledModel:
        compiled = CompiledModel(
            self,
            f"{camel(name)}Compiled",
            compiler=compiler,
            built=built,
            model="tensorflow",
            inputs={INPUT_NAME: (1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS)},
            settings=compilation,
            check=check,
        )
        warnings = compilation.warnings(saved_with=_build_tensorflow(), png_signature=settings.recipe.png_signature)
        for number, warning in enumerate(warnings):
            Annotations.of(compiled).add_warning_v2(f"saved-model:neo-{number}", warning)
        bucket = compiler.artifacts.bucket_name
        CfnOutput(self, f"{camel(name)}CompiledModel", value=f"s3://{bucket}/{compiled.key}")
        CfnOutput(self, f"{camel(name)}CompiledModelVerification", value=compiled.verification)
        return compiled

    def _image(self, endpoint: UnetEndpoint) -> ServedImage:
        """The server's image, once however many endpoints have it."""
        neo = endpoint.neo
        processor = instance(endpoint.instance_type).processor
        name = endpoint.server if neo is None else f"neo_{neo.processor}_{neo.version.image.replace('.', '')}"
        if endpoint.server == "tensorflow_serving" and processor == "gpu":
            name = f"{name}_gpu"
        if name not in self._images:
            if neo is not None:
                image = neo_tensorflow_image(
                    self, f"{camel(name)}Image", version=neo.version.image, processor=neo.processor
                )
            elif endpoint.server == "tensorflow_serving":
                image = tensorflow_serving_image(self, f"{camel(name)}Image", processor=processor)
            else:
                image = container_image(self, "OpenVinoImage", deployment=self._deployment, workload="saved_model")
            self._images[name] = image
        return self._images[name]


def _build_tensorflow() -> str:
    """The TensorFlow that the build saves with."""
    requirements = Path(saved_model.__file__).with_name("requirements.txt").read_text()
    found = re.search(r"^tensorflow-cpu==(\S+)$", requirements, re.MULTILINE)
    assert found is not None, "the build's requirements pin tensorflow-cpu"
    return found[1]
