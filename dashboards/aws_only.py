"""Metrics on the dashboards that the local account does not publish, and why."""

from collections.abc import Mapping

AWS_ONLY: Mapping[tuple[str, str | None], str] = {
    ("AWS/ApplicationELB", None): "fleets on EC2 have a load balancer; the local account has no EC2",
    ("AWS/AutoScaling", None): "fleets on EC2 are Auto Scaling groups; the local account has no EC2",
    (
        "NeuronEncoder",
        None,
    ): "sent by the CloudWatch agent of an instance with NeuronCores; `inference neuron top` shows virtual ones",
    ("AWS/SageMaker", "ConcurrentRequestsPerModel"): "the local account scales on it and does not send it",
    ("AWS/SageMaker", "ConcurrentRequestsPerCopy"): "the local account scales on it and does not send it",
}
"""Reasons by namespace and metric; None as the metric means every metric of the namespace."""


def reason(namespace: str, name: str) -> str | None:
    """Return why the local account does not publish a metric, or None if it does."""
    return AWS_ONLY.get((namespace, name)) or AWS_ONLY.get((namespace, None))
