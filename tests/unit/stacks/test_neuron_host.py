"""What an instance of a fleet does, and tells CloudWatch of its NeuronCores."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containers.neuron_encoder.placement import Demand, place
from stacks.constructs.neuron_host import HostProps, proxy_configuration, start_script

FILE = Path(__file__).parents[3] / "stacks/constructs/neuron_host_files/neuron_metrics.py"


def module() -> Any:
    specification = importlib.util.spec_from_file_location("neuron_metrics", FILE)
    assert specification is not None
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def runtime(cores: dict[str, float], device_bytes: int) -> dict[str, Any]:
    """A runtime's part of a report, as the Neuron Monitor User Guide shows it."""
    counters = {core: {"neuroncore_utilization": share, "flops": 0} for core, share in cores.items()}
    return {
        "pid": 1,
        "neuron_runtime_tag": "1",
        "error": "",
        "report": {
            "neuroncore_counters": {"period": 15.0, "neuroncores_in_use": counters, "error": ""},
            "memory_used": {"neuron_runtime_used_bytes": {"host": 5, "neuron_device": device_bytes}, "error": ""},
        },
    }


def report(*runtimes: dict[str, Any]) -> str:
    return json.dumps({"neuron_runtime_data": list(runtimes), "system_data": {}})


def figures(line: str) -> list[tuple[Any, Any, Any]]:
    found = module().events(line, "e", "/group", 1000)
    return [(event.get("NeuronCore"), event.get("CoreUtilization"), event.get("DeviceMemoryUsed")) for event in found]


def test_every_core_is_a_metric_and_the_memory_of_all_runtimes_is_one() -> None:
    line = report(runtime({"0": 62.5, "10": 5}, 100), runtime({"2": 0.0}, 50))
    assert figures(line) == [("0", 62.5, None), ("2", 0.0, None), ("10", 5.0, None), (None, None, 150)]


def test_an_event_is_in_embedded_metric_format_by_endpoint_and_by_core() -> None:
    event = module().events(report(runtime({"3": 40.0}, 0)), "e", "/group", 1234)[0]
    assert event == {
        "_aws": {
            "Timestamp": 1234,
            "LogGroupName": "/group",
            "CloudWatchMetrics": [
                {
                    "Namespace": "NeuronEncoder",
                    "Dimensions": [["Endpoint"], ["Endpoint", "NeuronCore"]],
                    "Metrics": [{"Name": "CoreUtilization", "Unit": "Percent"}],
                }
            ],
        },
        "Endpoint": "e",
        "NeuronCore": "3",
        "CoreUtilization": 40.0,
    }


@pytest.mark.parametrize(
    "line",
    ["", "no json", "[]", "null", '{"neuron_runtime_data": null}', '{"neuron_runtime_data": [7]}', report()],
)
def test_what_is_no_report_is_no_metric(line: str) -> None:
    assert figures(line) == []


def test_a_report_with_errors_in_place_of_figures_counts_no_core() -> None:
    broken = {"report": {"neuroncore_counters": None, "memory_used": {"error": "no access"}}}
    assert figures(report(broken)) == [(None, None, 0)]


def test_the_program_sends_each_event_to_the_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(10)
        moved = tmp_path / "neuron_metrics.py"
        moved.write_text(FILE.read_text().replace("25888", str(agent.getsockname()[1])))
        subprocess.run(
            [sys.executable, str(moved)],
            input=report(runtime({"0": 10.0}, 7)) + "\n",
            env={"ENDPOINT": "e", "METRICS_LOG_GROUP": "/group"},
            text=True,
            timeout=30,
            check=True,
        )
        received = [json.loads(agent.recv(65536)) for _ in range(2)]
    assert [(event.get("CoreUtilization"), event.get("DeviceMemoryUsed")) for event in received] == [
        (10.0, None),
        (None, 7),
    ]


def test_any_process_answers_for_the_instance_and_each_for_its_cores() -> None:
    processes = place("inf2.24xlarge", Demand(cores_per_copy=2)).processes
    text = proxy_configuration(processes)
    assert text.count("max_fails=1") == 6
    assert "location /predictions_neuron_core_10-11/ { proxy_pass http://127.0.0.1:8086; }" in text
    assert "location = /ping { proxy_pass http://every; }" in text


def test_the_largest_instance_fits_into_user_data() -> None:
    script = start_script(
        HostProps(
            endpoint="e" * 63,
            image="123456789012.dkr.ecr.us-gov-west-1.amazonaws.com/assets:" + "a" * 64,
            registry="123456789012.dkr.ecr.us-gov-west-1.amazonaws.com",
            model_url="s3://bucket/" + "k" * 120,
            archive_sha256="0" * 64,
            stack="S" * 60,
            group="G" * 60,
            start_seconds=900,
            region="us-gov-west-1",
            serving_log_group="g" * 120,
            metrics_log_group="m" * 120,
            environment={},
            placement=place("inf2.48xlarge", Demand()),
        )
    )
    assert len(script.encode()) < 16384, "EC2's limit of user data"
