"""Replicas follow the instance type as far as they can; metrics stay within CloudWatch's limits."""

import asyncio
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from local_aws.hosting import metrics
from local_aws.hosting.metrics import Metrics, _rounded
from local_aws.instances import onednn_max_cpu_isa
from sizing.instances import instance


@pytest.mark.parametrize(
    ("name", "vcpus", "memory", "cap"),
    [
        ("ml.c5.2xlarge", 8, 16, "AVX512_CORE"),
        ("ml.c6i.xlarge", 4, 8, "AVX512_CORE_VNNI"),
        ("ml.m5.large", 2, 8, "AVX512_CORE"),
        ("ml.c7i.4xlarge", 16, 32, None),
        ("ml.g5.xlarge", 4, 16, "AVX2"),
        ("ml.g4dn.xlarge", 4, 16, "AVX512_CORE_VNNI"),
        ("ml.c7g.large", 2, 4, None),
    ],
)
def test_an_instance_type_gives_cores_memory_and_instruction_set(
    name: str, vcpus: int, memory: float, cap: str | None
) -> None:
    found = instance(name)
    assert (found.vcpus, found.memory_gib, onednn_max_cpu_isa(name)) == (vcpus, memory, cap)


def test_what_ends_after_a_period_counts_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(metrics, "_put", sent.append)
    collected = Metrics(SimpleNamespace(fleets={}, all=lambda _kind: []))  # type: ignore[arg-type]
    load = collected.of(("e", "v"))
    load.model_cache(hit=False)
    asyncio.run(collected.publish())
    load.model_time("ModelLoadingTime", 0.5)
    asyncio.run(collected.publish())
    names = [[datum["MetricName"] for datum in each["AWS/SageMaker"]] for each in sent]
    assert "ModelCacheHit" in names[0]
    assert "ModelLoadingTime" in names[1]


def test_a_components_metrics_are_its_own_and_count_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(metrics, "_put", sent.append)
    specification = {"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1, "NumberOfCpuCoresRequired": 0.5}}
    record = {"InferenceComponentName": "c", "Specification": specification}
    copies = SimpleNamespace(ready=[SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=os.getpid())])
    control = SimpleNamespace(
        fleets={}, all=lambda _kind: [record], components=SimpleNamespace(copies=lambda _name: copies)
    )
    collected = Metrics(control)  # type: ignore[arg-type]
    for _ in range(4):
        collected.record(("c",), 200, 1000.0, 10.0)
    collected.refuse("c")
    asyncio.run(collected.publish())
    (minute,) = sent
    values = {datum["MetricName"]: datum.get("Value") for datum in minute["AWS/SageMaker"]}
    assert (values["Invocations"], values["InvocationsPerCopy"], values["NoCapacityInvocationFailures"]) == (4, 2, 1)
    assert "InvocationsPerInstance" not in values
    used = minute["/aws/sagemaker/InferenceComponents"]
    assert {datum["MetricName"] for datum in used} == {"CPUUtilizationNormalized", "MemoryUtilizationNormalized"}
    memory = [datum["Value"] for datum in used if datum["MetricName"] == "MemoryUtilizationNormalized"]
    # Of the one MiB that a copy has reserved.
    assert all(share > 100 for share in memory)
    dimensions = [{"Name": "InferenceComponentName", "Value": "c"}]
    assert all(datum["Dimensions"] == dimensions for data in minute.values() for datum in data)
    assert (collected.invocations["c",], collected.refusals["c",]) == (4, 1)


def test_instances_are_counted_by_their_samples_however_often_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(metrics, "_put", sent.append)
    first, later = (SimpleNamespace(pid=pid, models=SimpleNamespace(loaded=7)) for pid in (os.getpid(), os.getppid()))
    variant = SimpleNamespace(name="v", ready=list[SimpleNamespace]())
    now = 6000.0
    control = SimpleNamespace(fleets={"e": SimpleNamespace(variants={"v": variant})}, all=lambda _kind: [])
    collected = Metrics(control, lambda: now)  # type: ignore[arg-type]
    asyncio.run(collected.publish())
    variant.ready = [first]
    asyncio.run(collected.publish())
    variant.ready = [first, later]
    now += 5
    asyncio.run(collected.publish())
    asyncio.run(collected.publish())
    now += 55
    asyncio.run(collected.publish())
    names = [[datum["MetricName"] for datum in each["/aws/sagemaker/Endpoints"]] for each in sent]
    assert [each.count("CPUUtilization") for each in names] == [0, 1, 1, 0, 2]
    assert [each.count("LoadedModelCount") for each in names] == [0, 1, 2, 2, 2]


def test_a_replicas_processor_and_memory_are_those_of_its_children_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(metrics, "_put", sent.append)
    now = time.time()
    replica = SimpleNamespace(pid=os.getpid(), models=None)
    fleet = SimpleNamespace(variants={"v": SimpleNamespace(name="v", ready=[replica])})
    collected = Metrics(SimpleNamespace(fleets={"e": fleet}, all=lambda _kind: []), lambda: now)  # type: ignore[arg-type]
    asyncio.run(collected.publish())
    work = "import time; kept = bytearray(200 * 2**20)\nwhile time.process_time() < 0.5: pass\n"
    with subprocess.Popen(
        [sys.executable, "-c", work + "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        now += 60
        asyncio.run(collected.publish())
        child.communicate(b"\n")
    before, after = (
        {datum["MetricName"]: datum["Value"] for datum in each["/aws/sagemaker/Endpoints"]} for each in sent
    )
    assert after["MemoryUtilization"] - before["MemoryUtilization"] > 100 * 150 * 2**20 / psutil.virtual_memory().total
    assert after["CPUUtilization"] > 0


def test_latencies_are_rounded_to_half_a_percent() -> None:
    for value in (0.0, 7.0, 123456.0, 98765.4):
        assert _rounded(value) == pytest.approx(value, rel=0.005)
