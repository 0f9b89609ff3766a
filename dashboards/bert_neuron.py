"""The dashboard of bert_neuron: each NeuronCore's utilisation where it is published, and requests everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 24
"""Columns of a dashboard ("Dashboard body structure and syntax" in the CloudWatch API reference)."""
_HEIGHT = 6
Metric = list[Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A SageMaker endpoint: its name and its variant's."""

    name: str
    variant: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet on EC2: its name, the NeuronCores of an instance, and what CloudWatch calls its load balancer.

    target: percent of utilisation that scaling keeps, None without. load_balancer, target_group: full names, `app/...`
    and `targetgroup/...`.
    """

    name: str
    namespace: str
    cores: Sequence[int]
    target: float | None
    load_balancer: str
    target_group: str


def dashboard(endpoints: Sequence[Endpoint], fleets: Sequence[Fleet], region: str) -> dict[str, Any]:
    """The body, as JSON values: a row for each fleet's cores, and one of requests and latency for each hosting."""
    rows: list[list[dict[str, Any]]] = []
    for fleet in fleets:
        rows += [_cores(fleet, region), _balanced(fleet, region)]
    rows += [_served(endpoint, region) for endpoint in endpoints]
    widgets = []
    for number, row in enumerate(rows):
        width = WIDTH // len(row)
        for column, widget in enumerate(row):
            place = {"x": column * width, "y": number * _HEIGHT, "width": width, "height": _HEIGHT}
            widgets.append({"type": "metric", **place, "properties": widget})
    return {"widgets": widgets}


def _graph(title: str, metrics: list[Metric], region: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "metrics": metrics, "region": region, "view": "timeSeries", "period": 60, **more}


def _cores(fleet: Fleet, region: str) -> list[dict[str, Any]]:
    utilization: Metric = [fleet.namespace, "CoreUtilization", "Endpoint", fleet.name]
    axis: dict[str, Any] = {"yAxis": {"left": {"min": 0, "max": 100, "label": "percent"}}}
    if fleet.target is not None:
        axis["annotations"] = {"horizontal": [{"label": "target of scaling", "value": fleet.target}]}
    per_core = [
        [*utilization, "NeuronCore", str(core), {"label": f"core {core}", "stat": "Average"}] for core in fleet.cores
    ]
    average = [[*utilization, {"label": "all cores", "stat": "Average"}]]
    memory = [[fleet.namespace, "DeviceMemoryUsed", "Endpoint", fleet.name, {"label": "bytes", "stat": "Maximum"}]]
    return [
        _graph(f"{fleet.name}: utilisation of each NeuronCore", per_core, region, **axis),
        _graph(f"{fleet.name}: utilisation of all NeuronCores", average, region, **axis),
        _graph(f"{fleet.name}: accelerator memory in use on an instance", memory, region),
    ]


def _balanced(fleet: Fleet, region: str) -> list[dict[str, Any]]:
    group: Metric = ["TargetGroup", fleet.target_group, "LoadBalancer", fleet.load_balancer]

    def metric(name: str, stat: str, label: str) -> Metric:
        return ["AWS/ApplicationELB", name, *group, {"stat": stat, "label": label}]

    return [
        _graph(f"{fleet.name}: requests a minute", [metric("RequestCount", "Sum", "requests")], region),
        _graph(
            f"{fleet.name}: seconds to the answer",
            [metric("TargetResponseTime", stat, stat) for stat in ("p50", "p90", "p99")],
            region,
        ),
        _graph(
            f"{fleet.name}: instances and errors",
            [
                metric("HealthyHostCount", "Minimum", "healthy instances"),
                metric("UnHealthyHostCount", "Maximum", "unhealthy instances"),
                metric("HTTPCode_Target_5XX_Count", "Sum", "answers 5XX"),
            ],
            region,
        ),
    ]


def _served(endpoint: Endpoint, region: str) -> list[dict[str, Any]]:
    variant: Metric = ["EndpointName", endpoint.name, "VariantName", endpoint.variant]

    def metric(name: str, stat: str, label: str, namespace: str = "AWS/SageMaker") -> Metric:
        return [namespace, name, *variant, {"stat": stat, "label": label}]

    return [
        _graph(f"{endpoint.name}: requests a minute", [metric("Invocations", "Sum", "requests")], region),
        _graph(
            f"{endpoint.name}: microseconds in the model",
            [metric("ModelLatency", stat, stat) for stat in ("p50", "p90", "p99")],
            region,
        ),
        # SageMaker publishes no utilisation of NeuronCores; the host's processor is what limited the published server.
        _graph(
            f"{endpoint.name}: host processor in percent, of a vCPU each",
            [metric("CPUUtilization", "Average", "processor", "/aws/sagemaker/Endpoints")],
            region,
        ),
    ]
