"""Turns neuron-monitor's reports, one JSON object a line on stdin, into metrics for the CloudWatch agent.

It runs on the instance with the system's Python 3.9 and nothing else. Each metric is a UDP datagram in embedded metric
format. Source of the report's fields: "Neuron Monitor User Guide" of the AWS Neuron documentation.
"""

import json
import os
import socket
import sys
import time
from typing import Any

AGENT = ("127.0.0.1", 25888)
NAMESPACE = "NeuronEncoder"


def events(line: str, endpoint: str, log_group: str, milliseconds: int) -> list[dict[str, Any]]:
    """Utilization of each NeuronCore in percent, and memory in use on the accelerators in bytes; [] for no report."""
    try:
        runtimes = json.loads(line).get("neuron_runtime_data") or []
        reports = [runtime.get("report") or {} for runtime in runtimes]
    except (AttributeError, ValueError):
        return []
    utilization: dict[str, float] = {}
    memory = 0
    for report in reports:
        in_use = (report.get("neuroncore_counters") or {}).get("neuroncores_in_use") or {}
        for core, counters in in_use.items():
            share = float((counters or {}).get("neuroncore_utilization") or 0.0)
            utilization[core] = max(share, utilization.get(core, 0.0))
        used = (report.get("memory_used") or {}).get("neuron_runtime_used_bytes") or {}
        memory += int(used.get("neuron_device") or 0)
    if not reports:
        return []
    found = [
        _event(endpoint, log_group, milliseconds, "CoreUtilization", "Percent", share, {"NeuronCore": core})
        for core, share in sorted(utilization.items(), key=lambda item: (len(item[0]), item[0]))
    ]
    return [*found, _event(endpoint, log_group, milliseconds, "DeviceMemoryUsed", "Bytes", memory, {})]


def _event(
    endpoint: str, log_group: str, milliseconds: int, name: str, unit: str, value: float, more: dict[str, str]
) -> dict[str, Any]:
    dimensions = [["Endpoint"]] + ([["Endpoint", *more]] if more else [])
    metric = {"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": [{"Name": name, "Unit": unit}]}
    described = {"Timestamp": milliseconds, "LogGroupName": log_group, "CloudWatchMetrics": [metric]}
    return {"_aws": described, "Endpoint": endpoint, name: value, **more}


def main() -> None:
    """Send metrics until neuron-monitor ends; ENDPOINT names their source, METRICS_LOG_GROUP their destination."""
    endpoint, log_group = os.environ["ENDPOINT"], os.environ["METRICS_LOG_GROUP"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        for line in sys.stdin:
            for event in events(line, endpoint, log_group, int(time.time() * 1000)):
                agent.sendto(json.dumps(event).encode() + b"\n", AGENT)


if __name__ == "__main__":
    main()
