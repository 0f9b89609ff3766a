"""What dashboards show of a deployment's SageMaker endpoints, from its settings."""

import dashboards.endpoint as dashboards
from sizing.prices import usd_per_hour
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.naming import component_name
from stacks.settings.deployment import Deployment
from stacks.settings.endpoint import SageMakerEndpoint
from stacks.settings.scaling import Scaling

_TRACKED = {
    "target_invocations_per_instance": "InvocationsPerInstance",
    "target_concurrent_requests_per_model": "ConcurrentRequestsPerModel",
    "target_invocations_per_copy": "InvocationsPerCopy",
    "target_concurrent_requests_per_copy": "ConcurrentRequestsPerCopy",
}
"""CloudWatch's name of what is tracked ("Monitor SageMaker AI with CloudWatch" in the developer guide), by setting."""


def shown_endpoints(deployment: Deployment, workload: str, alarm_arn: str) -> list[dashboards.Endpoint]:
    """Return a workload's endpoints in the order of the settings.

    alarm_arn: the ARN of an alarm, up to its name.
    """
    return [
        _endpoint(deployment, deployment.endpoint_name(workload, key), endpoint, alarm_arn)
        for key, endpoint in deployment.workloads[workload].sagemaker_endpoints.items()
    ]


def _endpoint(deployment: Deployment, name: str, endpoint: SageMakerEndpoint, alarm_arn: str) -> dashboards.Endpoint:
    types = endpoint.variant_types
    alarms = alarm_names(name, list(types), multi_model=endpoint.multi_model)
    return dashboards.Endpoint(
        name=name,
        variants=tuple(
            dashboards.Variant(
                name=variant,
                instance_type=instance_type,
                usd_per_hour=usd_per_hour(deployment.region, instance_type),
                component=component_name(name) if endpoint.hosts_component else None,
                target=_target(endpoint.scaling),
            )
            for variant, instance_type in types.items()
        ),
        multi_model=endpoint.multi_model,
        p99_model_latency_ms=endpoint.alarms.p99_model_latency_ms,
        model_loading_wait_ms=endpoint.alarms.model_loading_wait_ms,
        alarms=tuple(alarm_arn + alarm for alarm in alarms),
    )


def _target(scaling: Scaling | None) -> dashboards.Target | None:
    if scaling is None or scaling.target_value is None:
        return None
    (setting,) = scaling.targets
    return dashboards.Target(
        metric=_TRACKED[setting], value=scaling.target_value, least=scaling.min_capacity, most=scaling.most
    )
