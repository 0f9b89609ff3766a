"""Settings refuse nonsense with one line, processes fit the devices that are there, and neuron-monitor is read."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from containers.neuron_encoder.artifact import INPUTS, Bucket, NeuronArtifact
from containers.neuron_encoder.layout import processes
from containers.neuron_encoder.monitor import NeuronMonitor, Reading, read
from containers.neuron_encoder.settings import Settings
from containers.serving.errors import StartupError

GIB = 2**30
_Found = TypeVar("_Found")


def artifact(target: Any = "inf2", *, cores_per_copy: int = 1, device_bytes: int = 0) -> NeuronArtifact:
    return NeuronArtifact(
        target=target,
        sdk={},
        inputs=INPUTS,
        buckets=(Bucket(length=128, batch=1, file="m"),),
        cores_per_copy=cores_per_copy,
        device_bytes=device_bytes,
    )


def settings(**variables: str) -> Settings:
    return Settings.from_environment({f"NEURON_ENCODER_{name}": value for name, value in variables.items()})


def test_without_variables_it_serves_one_model_on_every_real_core() -> None:
    assert settings() == Settings()
    assert (Settings().device, Settings().models, Settings().batch_deadline_ms) == ("neuron", 1, 2.0)


def test_every_variable_is_read() -> None:
    assert settings(
        DEVICE="timed", VIRTUAL_CORES="4", MODELS="2", CORES_PER_COPY="2", COPIES="1", FIRST_PORT="0",
        BATCH_DEADLINE_MS="0.5", QUEUE_CAPACITY="9", TOKENIZER_THREADS="3",
    ) == Settings(
        device="timed", virtual_cores=4, models=2, cores_per_copy=2, copies=1, first_port=0, batch_deadline_ms=0.5,
        queue_capacity=9, tokenizer_threads=3,
    )  # fmt: skip


def test_sagemakers_safe_ports_are_taken_unless_a_port_is_set() -> None:
    safe = {"SAGEMAKER_SAFE_PORT_RANGE": "17000-17999"}
    assert Settings.from_environment(safe).first_port == 17000
    assert Settings.from_environment({**safe, "NEURON_ENCODER_FIRST_PORT": "9000"}).first_port == 9000


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DEVICE": "gpu"}, "NEURON_ENCODER_DEVICE is 'gpu': it must be one of neuron, cpu, timed"),
        ({"DEVICE": "timed"}, "set NEURON_ENCODER_VIRTUAL_CORES to the number of cores to emulate"),
        ({"VIRTUAL_CORES": "2"}, "NEURON_ENCODER_VIRTUAL_CORES is 2 with real devices"),
        ({"DEVICE": "cpu", "VIRTUAL_CORES": "2", "INSTANCE_TYPE": "inf2.xlarge"}, "applies only to real devices"),
        ({"INSTANCE_TYPE": "c6i.xlarge"}, "it must be one of inf1.xlarge"),
        ({"MODELS": "0"}, "NEURON_ENCODER_MODELS is '0': it must be a whole number from 1"),
        ({"MODELS": "٣"}, "NEURON_ENCODER_MODELS is '٣'"),
        ({"QUEUE_CAPACITY": "9" * 5000}, "NEURON_ENCODER_QUEUE_CAPACITY is '999"),
        ({"BATCH_DEADLINE_MS": "nan"}, "NEURON_ENCODER_BATCH_DEADLINE_MS is 'nan': it must be milliseconds"),
        ({"FIRST_PORT": "80"}, "NEURON_ENCODER_FIRST_PORT is '80': it must be from 1024 to 65535"),
        ({"MODEL": "2"}, "NEURON_ENCODER_MODEL is not a setting: the settings are NEURON_ENCODER_BATCH_DEADLINE_MS"),
    ],
)
def test_nonsense_is_refused_with_one_line(variables: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError) as raised:
        settings(**variables)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_virtual_cores_are_shared_out_like_real_ones() -> None:
    virtual = settings(DEVICE="timed", VIRTUAL_CORES="4", CORES_PER_COPY="2", MODELS="3", FIRST_PORT="8081")
    found = processes(virtual, artifact(), 8)
    assert [(each.cores, each.port, each.threads, each.models) for each in found] == [
        ((0, 1), 8081, 4, 3),
        ((2, 3), 8082, 4, 3),
    ]


def test_ports_are_the_kernels_choice_and_the_artifact_says_how_many_cores_a_copy_has_unless_a_setting_does() -> None:
    virtual = settings(DEVICE="cpu", VIRTUAL_CORES="4")
    found = processes(virtual, artifact(cores_per_copy=4), 2)
    assert [(each.cores, each.port, each.threads) for each in found] == [((0, 1, 2, 3), 0, 2)]


def devices(folder: Path, count: int) -> Path:
    for index in range(count):
        (folder / f"neuron{index}").touch()
    (folder / "neuron_monitor").touch()
    return folder


def test_the_devices_that_are_there_say_which_instance_it_is(tmp_path: Path) -> None:
    found = processes(settings(), artifact(), 96, devices(tmp_path, 6))
    assert len(found) == 12
    assert (found[11].visible_cores, found[11].device_paths, found[11].threads) == ("11", ("/dev/neuron5",), 8)


def test_of_sizes_with_the_same_devices_the_hosts_processors_decide(tmp_path: Path) -> None:
    dev = devices(tmp_path, 1)
    assert [each.threads for each in processes(settings(), artifact(), 30, dev)] == [16, 16]
    assert [each.threads for each in processes(settings(), artifact("inf1"), 4, dev)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("variables", "traced", "count", "message"),
    [
        ({}, artifact(), 0, "this machine has no Neuron device (/dev/neuron0): use an instance of inf2"),
        ({}, artifact("cpu"), 1, "the artifact is traced for cpu and NEURON_ENCODER_DEVICE is neuron"),
        ({}, artifact(), 2, "2 Neuron devices (4 cores of inf2) are visible, but no instance size has that number"),
        ({"INSTANCE_TYPE": "ml.inf2.24xlarge"}, artifact(), 1, "with 6 Neuron devices, but 1 are visible"),
        ({"COPIES": "3"}, artifact(), 1, "copies is 3: inf2.xlarge has 2 NeuronCores"),
        ({"MODELS": "9"}, artifact(device_bytes=2 * GIB), 1, "models is 9 at 2.0 GiB of accelerator memory each"),
        ({"DEVICE": "timed", "VIRTUAL_CORES": "3", "CORES_PER_COPY": "2"}, artifact(), 0, "must be a multiple of it"),
        ({"DEVICE": "timed", "VIRTUAL_CORES": "2", "COPIES": "3"}, artifact(), 0, "fit 2 copies of 1 each"),
        ({"DEVICE": "timed", "VIRTUAL_CORES": "2", "FIRST_PORT": "65535"}, artifact(), 0, "need consecutive ports"),
    ],
)
def test_what_does_not_fit_is_refused_with_one_line(
    tmp_path: Path, variables: dict[str, str], traced: NeuronArtifact, count: int, message: str
) -> None:
    with pytest.raises(StartupError) as raised:
        processes(settings(**variables), traced, 4, devices(tmp_path, count))
    assert message in str(raised.value)


REPORT = {
    "neuron_runtime_data": [
        {
            "pid": 17,
            "neuron_runtime_tag": "17",
            "error": "",
            "report": {
                "execution_stats": {
                    "period": 5.0,
                    "error_summary": {"generic": 1, "numerical": 0, "transient": 2},
                    "execution_summary": {"completed": 52},
                },
                "memory_used": {
                    "period": 5.0,
                    "neuron_runtime_used_bytes": {"host": 1000, "neuron_device": 62_547_744},
                    "error": "",
                },
                "neuroncore_counters": {
                    "period": 5.0,
                    "neuroncores_in_use": {
                        "0": {"neuroncore_utilization": 42.5},
                        "1": {"neuroncore_utilization": 0},
                    },
                    "error": "",
                },
            },
        },
        {
            "pid": 18,
            "neuron_runtime_tag": "18",
            "error": "",
            "report": {
                "memory_used": {"neuron_runtime_used_bytes": {"host": 10, "neuron_device": 20}},
                "neuroncore_counters": {"neuroncores_in_use": {"1": {"neuroncore_utilization": 99.9}}},
            },
        },
    ],
    "system_data": {"vcpu_usage": {"period": 5.0, "average_usage": {"user": 3.0}}},
    "instance_info": {"instance_type": "inf2.xlarge"},
}
"""As the Neuron Monitor User Guide has it, cut to what is read and a part of what is not."""


def test_a_report_of_neuron_monitor_is_read_for_all_runtimes_together() -> None:
    found = read(json.dumps(REPORT).encode())
    assert found is not None
    assert found.utilization == pytest.approx({0: 0.425, 1: 0.999})
    assert (found.device_bytes, found.host_bytes, found.errors) == (62_547_764, 1010, 3)


@pytest.mark.parametrize("line", [b"", b"neuron-monitor: no driver", b"[1]", b'{"neuron_runtime_data": 5}', b"\xff"])
def test_a_line_that_is_no_report_is_left_out(line: bytes) -> None:
    assert read(line) is None


def test_a_report_without_runtimes_has_no_figures() -> None:
    assert read(b'{"neuron_runtime_data": null}') == Reading()


def wait_for(find: Callable[[], _Found]) -> _Found:
    deadline = time.monotonic() + 20
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_the_last_report_of_the_running_program_is_told_and_none_once_it_ended(tmp_path: Path) -> None:
    program, gone = tmp_path / "neuron-monitor", tmp_path / "gone"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(REPORT)}'\nwhile [ ! -e {gone} ]; do sleep 0.02; done\n")
    program.chmod(0o755)
    monitor = NeuronMonitor(str(program))
    try:
        families = wait_for(lambda: list(monitor.collect()))
        samples = {(s.name, s.labels.get("core")): s.value for family in families for s in family.samples}
        assert samples["neuron_monitor_core_utilization_ratio", "1"] == pytest.approx(0.999)
        assert samples["neuron_monitor_device_memory_bytes", None] == 62_547_764
        gone.touch()
        assert wait_for(lambda: not list(monitor.collect()))
    finally:
        monitor.stop()


def test_an_instance_without_neuron_monitor_has_none_of_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monitor = NeuronMonitor()
    assert list(monitor.collect()) == []
    monitor.stop()
