"""What dashboards show of a deployment's SageMaker endpoints, from its settings."""

import dashboards.endpoint as dashboards
from sizing.prices import PriceError, price
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.naming import component_name
from stacks.neuron_settings import NeuronEndpoint
from stacks.scaling_settings import Scaling
from stacks.settings import ONLY_VARIANT, Deployment, Endpoint, MultiModelEndpoint, UnetEndpoint

Hosted = Endpoint | MultiModelEndpoint | UnetEndpoint | NeuronEndpoint
PRICED_REGION = "us-east-1"
"""Whose prices a deployment shows that names no region."""
_TRACKED = {
    "target_invocations_per_instance": "InvocationsPerInstance",
    "target_concurrent_requests_per_model": "ConcurrentRequestsPerModel",
    "target_invocations_per_copy": "InvocationsPerCopy",
    "target_concurrent_requests_per_copy": "ConcurrentRequestsPerCopy",
}
"""CloudWatch's name of what is tracked ("Monitor SageMaker AI with CloudWatch" in the developer guide), by setting."""


def shown_endpoints(deployment: Deployment, workload: str, alarm_arn: str) -> list[dashboards.Endpoint]:
    """A workload's endpoints in the order of the settings; alarm_arn: what stands before an alarm's name in its ARN."""
    settings = deployment.workloads.enabled[workload]
    return [
        _endpoint(deployment, deployment.endpoint_name(workload, key), endpoint, alarm_arn)
        for key, endpoint in settings.endpoints.items()
        if isinstance(endpoint, Hosted)
    ]


def usd_per_hour(deployment: Deployment, instance_type: str) -> float | None:
    """Price of an instance where the deployment goes; None where the table has none."""
    try:
        return price(deployment.region or PRICED_REGION, instance_type).usd_per_hour
    except PriceError:
        return None


def _endpoint(deployment: Deployment, name: str, endpoint: Hosted, alarm_arn: str) -> dashboards.Endpoint:
    multi_model = isinstance(endpoint, MultiModelEndpoint)
    types = (
        {variant: one.instance_type for variant, one in endpoint.enabled_variants.items()}
        if isinstance(endpoint, Endpoint)
        else {ONLY_VARIANT: endpoint.instance_type}
    )
    component = component_name(name) if isinstance(endpoint, UnetEndpoint) and endpoint.inference_component else None
    return dashboards.Endpoint(
        name=name,
        variants=tuple(
            dashboards.Variant(
                name=variant,
                instance_type=instance_type,
                usd_per_hour=usd_per_hour(deployment, instance_type),
                component=component,
                target=_target(endpoint.scaling),
            )
            for variant, instance_type in types.items()
        ),
        multi_model=multi_model,
        p99_model_latency_ms=endpoint.alarms.p99_model_latency_ms,
        model_loading_wait_ms=endpoint.alarms.model_loading_wait_ms,
        alarms=tuple(alarm_arn + alarm for alarm in alarm_names(name, list(types), multi_model=multi_model)),
    )


def _target(scaling: Scaling | None) -> dashboards.Target | None:
    if scaling is None or scaling.target_value is None:
        return None
    (setting,) = scaling.targets
    return dashboards.Target(
        metric=_TRACKED[setting], value=scaling.target_value, least=scaling.min_capacity, most=scaling.most
    )
