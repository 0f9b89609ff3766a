"""BERT on Inferentia: SageMaker endpoints, and fleets on EC2, from the same archives and the same image."""

from aws_cdk import Annotations, Aws, CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

import dashboards.neuron_encoder as dashboards
from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.dashboard import workload_dashboard
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import hosted_model
from stacks.constructs.neuron_fleet import LoadBalancedFleet
from stacks.constructs.neuron_host import METRICS_NAMESPACE
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps, capture_prefix
from stacks.images import ServedImage, container_image
from stacks.model_build import WorkloadBuild
from stacks.naming import camel
from stacks.neuron_settings import NeuronEncoder, NeuronEndpoint, NeuronFleet
from stacks.settings import ONLY_VARIANT, Deployment
from stacks.shown import usd_per_hour
from stacks.supply_chain_settings import PYTHON_BASE

WORKLOAD = "neuron_encoder"
_WITHOUT_SDK = {"DEVICE": "cpu", "BASE_IMAGE": PYTHON_BASE}
"""Build arguments of the image for virtual cores; the Dockerfile's own are for real ones."""


class NeuronEncoderStack(Stack):
    """Traces the models of the settings, and serves them by either hosting."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        settings: NeuronEncoder,
        build: WorkloadBuild,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        access_logs: s3.IBucket,
        region: str | None,
    ) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        self._deployment, self._settings = deployment, settings
        self._artifacts, self._key, self._alerts = artifacts, key, alerts
        self._access_logs = access_logs
        self._images: dict[bool, ServedImage] = {}
        self._built = {
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
        for name, recipe in settings.models.items():
            for number, warning in enumerate(recipe.warnings):
                Annotations.of(self._built[name]).add_warning_v2(f"neuron-encoder:{name}-{number}", warning)
            CfnOutput(
                self, f"{camel(name)}Artifacts", value=f"s3://{artifacts.bucket_name}/{self._built[name].prefix}/"
            )
        fleets = []
        for endpoint_key, endpoint in settings.endpoints.items():
            if isinstance(endpoint, NeuronEndpoint):
                self._serve(endpoint_key, endpoint)
            else:
                fleets.append(self._run(endpoint_key, endpoint))
        rows = [row for fleet in fleets for row in dashboards.rows(fleet, Aws.REGION)]
        workload_dashboard(self, deployment=deployment, workload=WORKLOAD, rows=rows)

    def _serve(self, endpoint_key: str, endpoint: NeuronEndpoint) -> None:
        name = self._deployment.endpoint_name(WORKLOAD, endpoint_key)
        image = self._image(virtual=endpoint.device != "neuron")
        model_key = self._model_key(endpoint.model)
        vpc = self._deployment.vpc
        role = execution_role(
            self,
            f"{camel(endpoint_key)}Role",
            endpoints=[
                ServedEndpoint(
                    name=name,
                    alarm_names=alarm_names(name, [ONLY_VARIANT], multi_model=False),
                    capture_prefix=capture_prefix(name) if endpoint.data_capture else None,
                )
            ],
            model_keys=[model_key],
            image_repository_arn=image.repository_arn,
            artifacts=self._artifacts,
            key=self._key,
            vpc=vpc,
        )
        model = hosted_model(
            self,
            f"{camel(endpoint_key)}Model",
            image_uri=image.uri,
            model_key=model_key,
            role=role,
            artifacts=self._artifacts,
            vpc=vpc,
            environment={**endpoint.container_environment(), **self._hashes(endpoint.model)},
        )
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
            data_capture=endpoint.data_capture,
            artifacts=self._artifacts,
            key=self._key,
            alerts=self._alerts,
        )
        CfnOutput(self, f"{camel(endpoint_key)}EndpointName", value=name)

    def _run(self, endpoint_key: str, settings: NeuronFleet) -> dashboards.Fleet:
        name = self._deployment.endpoint_name(WORKLOAD, endpoint_key)
        placement = settings.placement(settings.instance_type, self._settings.models[settings.model])
        fleet = LoadBalancedFleet(
            self,
            camel(endpoint_key),
            name=name,
            settings=settings,
            placement=placement,
            image=self._image(virtual=False),
            model_key=self._model_key(settings.model),
            hashes=self._hashes(settings.model),
            artifacts=self._artifacts,
            key=self._key,
            access_logs=self._access_logs,
            alerts=self._alerts,
        )
        scheme = "https" if settings.certificate_arn else "http"
        CfnOutput(self, f"{camel(endpoint_key)}Url", value=f"{scheme}://{fleet.load_balancer.load_balancer_dns_name}")
        CfnOutput(self, f"{camel(endpoint_key)}GroupName", value=fleet.group.auto_scaling_group_name)
        return dashboards.Fleet(
            name=name,
            namespace=METRICS_NAMESPACE,
            cores=[core for process in placement.processes for core in process.cores],
            target=settings.tracked.target_core_utilization if settings.tracked else None,
            group=fleet.group.auto_scaling_group_name,
            load_balancer=fleet.load_balancer.load_balancer_full_name,
            target_group=fleet.target_group.target_group_full_name,
            usd_per_hour=usd_per_hour(self._deployment, settings.instance_type),
        )

    def _model_key(self, model: str) -> str:
        return self._built[model].model_key(self._settings.models[model].target)

    def _hashes(self, model: str) -> dict[str, str]:
        return self._built[model].hashes(self._settings.models[model].target)

    def _image(self, *, virtual: bool) -> ServedImage:
        """The image for real or for virtual cores, once however many hostings have it."""
        if virtual not in self._images:
            self._images[virtual] = container_image(
                self,
                "VirtualImage" if virtual else "NeuronImage",
                deployment=self._deployment,
                workload=WORKLOAD,
                build_args=_WITHOUT_SDK if virtual else {"DEVICE": "neuron"},
                on_neuron=not virtual,
            )
        return self._images[virtual]
