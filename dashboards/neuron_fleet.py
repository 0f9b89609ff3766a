"""Dashboard rows of a neuron_encoder fleet on EC2: utilization of each NeuronCore, and the load balancer."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.body import Row
from dashboards.graphs import calculated, graph, metric

_PERCENT = "percent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet on EC2.

    name: name of the fleet.
    cores: NeuronCores of an instance.
    target: utilization in percent that scaling maintains; None without scaling.
    group: name of the Auto Scaling group.
    load_balancer, target_group: full names for CloudWatch, `app/...` and `targetgroup/...`.
    usd_per_hour: price of one instance.
    """

    name: str
    namespace: str
    cores: Sequence[int]
    target: float | None
    group: str
    load_balancer: str
    target_group: str
    usd_per_hour: float | None


def rows(fleet: Fleet, region: str) -> list[Row]:
    """Return a row for the NeuronCores, and one for requests, latency, instances and cost."""
    return [_cores(fleet, region), _balanced(fleet, region)]


def _cores(fleet: Fleet, region: str) -> Row:
    endpoint = {"Endpoint": fleet.name}
    limits = [] if fleet.target is None else [("target of scaling", fleet.target)]
    per_core = [
        metric(fleet.namespace, "CoreUtilization", {**endpoint, "NeuronCore": str(core)}, "Average", f"core {core}")
        for core in fleet.cores
    ]
    average = [metric(fleet.namespace, "CoreUtilization", endpoint, "Average", "all cores")]
    memory = [
        metric(fleet.namespace, "DeviceMemoryUsed", endpoint, "Maximum", id="used", hidden=True),
        calculated("used/1073741824", "GiB"),
    ]
    name = fleet.name
    return Row(
        (
            ("metric", graph(f"{name}: each NeuronCore", per_core, region, left=_PERCENT, limits=limits), 8),
            ("metric", graph(f"{name}: all NeuronCores", average, region, left=_PERCENT, limits=limits), 8),
            ("metric", graph(f"{name}: accelerator memory in use", memory, region, left="GiB of an instance"), 8),
        )
    )


def _balanced(fleet: Fleet, region: str) -> Row:
    group = {"TargetGroup": fleet.target_group, "LoadBalancer": fleet.load_balancer}
    balancer = "AWS/ApplicationELB"
    seconds = [
        line
        for stat in ("p50", "p90", "p99")
        for line in (
            metric(balancer, "TargetResponseTime", group, stat, id=stat, hidden=True),
            calculated(f"1000*{stat}", stat.upper()),
        )
    ]
    members = {"AutoScalingGroupName": fleet.group}
    machines = [
        metric("AWS/AutoScaling", "GroupDesiredCapacity", members, "Average", "desired"),
        metric("AWS/AutoScaling", "GroupInServiceInstances", members, "Average", "in service", id="running"),
        metric(balancer, "HealthyHostCount", group, "Minimum", "healthy"),
    ]
    if fleet.usd_per_hour is not None:
        machines.append(calculated(f"running*{fleet.usd_per_hour:g}", "$ an hour", right=True))
    requests = [
        metric(balancer, "RequestCount", group, "Sum", "requests"),
        metric(balancer, "HTTPCode_Target_4XX_Count", group, "Sum", "answers 4XX", right=True),
        metric(balancer, "HTTPCode_Target_5XX_Count", group, "Sum", "answers 5XX", right=True),
    ]
    return Row(
        (
            (
                "metric",
                graph(f"{fleet.name}: requests", requests, region, left="a minute", right="errors a minute"),
                8,
            ),
            ("metric", graph(f"{fleet.name}: until the answer", seconds, region, left="ms"), 8),
            (
                "metric",
                graph(
                    f"{fleet.name}: capacity",
                    machines,
                    region,
                    left="instances",
                    right=None if fleet.usd_per_hour is None else "$ an hour",
                ),
                8,
            ),
        )
    )
