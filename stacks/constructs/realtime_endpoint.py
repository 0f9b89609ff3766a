"""A SageMaker real-time endpoint with its scaling and alarms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from sizing.instances import instance
from stacks.constructs.endpoint_alarms import endpoint_alarm, serving_alarms
from stacks.constructs.endpoint_scaling import add_scaling, scaled_variant
from stacks.constructs.log_group import log_group
from stacks.resources import SharedResources
from stacks.settings.endpoint import SageMakerEndpoint
from stacks.settings.guardrails import Capacity, Guardrails
from stacks.settings.hosting import DataCapture


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantProps:
    """One variant and the model that it serves; a shadow gets copies of the production variant's requests."""

    name: str
    model: sagemaker.CfnModel
    instance_type: str
    instance_count: int
    weight: float = 1.0
    shadow: bool = False


class RealtimeEndpoint(Construct):
    """Endpoint configuration and endpoint; only the endpoint has a name, so every change replaces the rest."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        variants: Sequence[VariantProps],
        settings: SageMakerEndpoint,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        self.endpoint_name = endpoint_name
        alarms = {
            variant.name: serving_alarms(
                self,
                endpoint_name=endpoint_name,
                variant=variant.name,
                dimensions={"EndpointName": endpoint_name, "VariantName": variant.name},
                alarms=settings.alarms,
                multi_model=settings.multi_model,
            )
            for variant in variants
        }
        self.alarms = [alarm for each in alarms.values() for alarm in each]
        endpoint_alarm(self, endpoint_name=endpoint_name, alarms=self.alarms, alerts=resources.alerts)
        # A shadow's responses are discarded, so its alarms do not roll back an update.
        self._watched = [alarm for variant in variants if not variant.shadow for alarm in alarms[variant.name]]
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[_variant(variant) for variant in variants if not variant.shadow],
            shadow_production_variants=[_variant(variant) for variant in variants if variant.shadow] or None,
            kms_key_id=volume_key((variant.instance_type for variant in variants), resources.key),
            data_capture_config=data_capture_config(settings.captures, resources, capture_prefix(endpoint_name)),
        )
        logged = containers_log_group(self, "Logs", f"Endpoints/{endpoint_name}", resources.key)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
            **_retained(settings),
            deployment_config=self._build_guardrails(settings.guardrails, settings.most_instances),
        )
        self.endpoint.node.add_dependency(logged)
        if settings.scaling is not None:
            for variant in (each for each in variants if not each.shadow):
                add_scaling(self, scaled_variant(endpoint_name, variant.name), settings.scaling, after=self.endpoint)

    def _build_guardrails(
        self, guardrails: Guardrails | None, most: int
    ) -> sagemaker.CfnEndpoint.DeploymentConfigProperty | None:
        if guardrails is None:
            return None
        return sagemaker.CfnEndpoint.DeploymentConfigProperty(
            # SageMaker accepts at most ten alarms.
            auto_rollback_configuration=sagemaker.CfnEndpoint.AutoRollbackConfigProperty(
                alarms=[sagemaker.CfnEndpoint.AlarmProperty(alarm_name=a.alarm_name) for a in self._watched[:10]]
            ),
            blue_green_update_policy=None if guardrails.traffic == "rolling" else _blue_green(guardrails, most),
            rolling_update_policy=_rolling(guardrails, most) if guardrails.traffic == "rolling" else None,
        )


def _retained(settings: SageMakerEndpoint) -> dict[str, Any]:
    """Keep the number of instances that scaling has reached; without scaling, the number in the file counts."""
    if settings.scaling is None:
        return {}
    others = ("DesiredWeight", "DataCaptureConfig")
    return {
        "retain_all_variant_properties": True,
        "exclude_retained_variant_properties": [
            sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type=each) for each in others
        ],
    }


def _variant(variant: VariantProps) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    return sagemaker.CfnEndpointConfig.ProductionVariantProperty(
        variant_name=variant.name,
        model_name=variant.model.attr_model_name,
        instance_type=variant.instance_type,
        initial_instance_count=variant.instance_count,
        initial_variant_weight=variant.weight,
        model_data_download_timeout_in_seconds=600,
        container_startup_health_check_timeout_in_seconds=300,
        inference_ami_version=instance(variant.instance_type).family.inference_ami,
    )


def _blue_green(guardrails: Guardrails, most: int) -> sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty:
    step = _capacity(guardrails.size)
    return sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty(
        traffic_routing_configuration=sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
            type=guardrails.traffic.upper(),
            wait_interval_in_seconds=guardrails.bake_seconds,
            canary_size=step if guardrails.traffic == "canary" else None,
            linear_step_size=step if guardrails.traffic == "linear" else None,
        ),
        termination_wait_in_seconds=guardrails.keep_seconds,
        maximum_execution_timeout_in_seconds=guardrails.timeout(most),
    )


def _rolling(guardrails: Guardrails, most: int) -> sagemaker.CfnEndpoint.RollingUpdatePolicyProperty:
    return sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
        maximum_batch_size=_capacity(guardrails.size),
        wait_interval_in_seconds=guardrails.bake_seconds,
        maximum_execution_timeout_in_seconds=guardrails.timeout(most),
    )


def _capacity(size: Capacity) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    return sagemaker.CfnEndpoint.CapacitySizeProperty(
        type="CAPACITY_PERCENT" if size.percent else "INSTANCE_COUNT", value=size.value
    )


def data_capture_config(
    capture: DataCapture | None, resources: SharedResources, prefix: str
) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty | None:
    """Return the endpoint configuration's data capture, or None without it."""
    if capture is None:
        return None
    return sagemaker.CfnEndpointConfig.DataCaptureConfigProperty(
        enable_capture=True,
        initial_sampling_percentage=capture.sampling_percentage,
        destination_s3_uri=resources.artifacts.s3_url_for_object(prefix),
        kms_key_id=resources.key.key_arn,
        capture_options=[
            sagemaker.CfnEndpointConfig.CaptureOptionProperty(capture_mode=mode) for mode in ("Input", "Output")
        ],
    )


def containers_log_group(scope: Construct, construct_id: str, name: str, key: kms.IKey) -> logs.LogGroup:
    """Return the log group of an endpoint's containers, created before SageMaker would."""
    return log_group(scope, construct_id, key=key, name=f"/aws/sagemaker/{name}")


def volume_key(instance_types: Iterable[str], key: kms.IKey) -> str | None:
    """Return the key of the instances' storage, or None with local NVMe, which its hardware encrypts."""
    return None if any(instance(each).family.local_nvme for each in instance_types) else key.key_arn


def capture_prefix(endpoint_name: str) -> str:
    """Return the key prefix, in the artifact bucket, of an endpoint's captured requests and responses."""
    return f"capture/{endpoint_name}"
