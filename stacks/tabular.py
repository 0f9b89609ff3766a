"""The multi-model endpoints of tabular: every model of one prefix, on each of the settings' sizes."""

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from containers.tabular.features import FEATURES, archive_name
from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.dashboard import workload_dashboard
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import hosted_model
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps
from stacks.images import ServedImage, builtin_xgboost_image, container_image
from stacks.model_build import WorkloadBuild
from stacks.naming import camel
from stacks.settings import ONLY_VARIANT, Deployment, Tabular

WORKLOAD = "tabular"


class TabularStack(Stack):
    """Builds a model per state and serves them all from one Model in MultiModel mode."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: Tabular,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        image = self._image(deployment, settings)
        built = BuiltArtifact(
            self,
            "Artifact",
            builder=build.builder,
            project=build.project,
            artifacts=artifacts,
            prefix=f"{build.prefix}/by_state",
            source_hash=build.source_hash,
            recipe=settings.recipe.model_dump_json(),
        )
        models = built.key("models/")
        names = {endpoint: deployment.endpoint_name(WORKLOAD, endpoint) for endpoint in settings.endpoints}
        role = execution_role(
            self,
            "Role",
            endpoints=[
                ServedEndpoint(name=name, alarm_names=alarm_names(name, [ONLY_VARIANT], multi_model=True))
                for name in names.values()
            ],
            model_keys=[f"{models}*"],
            listed_prefix=models,
            image_repository_arn=image.repository_arn,
            artifacts=artifacts,
            key=key,
            vpc=deployment.vpc,
        )
        model = hosted_model(
            self,
            "Model",
            image_uri=image.uri,
            model_key=models,
            role=role,
            artifacts=artifacts,
            vpc=deployment.vpc,
            multi_model=True,
            environment=_environment(settings),
        )
        for endpoint_key, endpoint in settings.endpoints.items():
            name = names[endpoint_key]
            RealtimeEndpoint(
                self,
                camel(endpoint_key),
                endpoint_name=name,
                variants=[
                    VariantProps(
                        name=ONLY_VARIANT,
                        model=model,
                        instance_type=endpoint.instance_type,
                        instance_count=endpoint.instance_count,
                    )
                ],
                alarms=endpoint.alarms,
                scaling=endpoint.scaling,
                guardrails=endpoint.guardrails,
                data_capture=None,
                multi_model=True,
                artifacts=artifacts,
                key=key,
                alerts=alerts,
            )
            CfnOutput(self, f"{camel(endpoint_key)}EndpointName", value=name)
            CfnOutput(self, f"{camel(endpoint_key)}Invoke", value=_invoke_command(name))
        workload_dashboard(self, deployment=deployment, workload=WORKLOAD)
        # A new archive under this URL is served at its first request: adding a state is one upload.
        CfnOutput(self, "Models", value=f"s3://{artifacts.bucket_name}/{models}")

    def _image(self, deployment: Deployment, settings: Tabular) -> ServedImage:
        if settings.container == "builtin":
            return builtin_xgboost_image(self, "BuiltinImage")
        return container_image(self, "Image", deployment=deployment, workload=WORKLOAD)


def _environment(settings: Tabular) -> dict[str, str]:
    if not settings.memory_per_model_mib:
        return {}
    return {"MODEL_MEMORY_RESERVATION_BYTES": str(settings.memory_per_model_mib * 2**20)}


def _invoke_command(endpoint: str) -> str:
    row = ",".join(["0"] * len(FEATURES))
    return (
        f"aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint} --target-model {archive_name('CA')} "
        f"--content-type text/csv --cli-binary-format raw-in-base64-out --body '{row}' /dev/stdout"
    )
