"""Metrics on the dashboards that the local account does not have, and why."""

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
"""By namespace and metric; None is every metric of the namespace."""


def reason(namespace: str, name: str) -> str | None:
    """Why the local account does not send a metric; None where it does."""
    return AWS_ONLY.get((namespace, name)) or AWS_ONLY.get((namespace, None))
