"""An instance type that cannot run the image is refused with the reason and the cheapest types that can."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sizing.instance_families import FAMILIES
from sizing.instances import instance, instances
from stacks.settings.deployment import Deployment, DeploymentError

PAGE = Path(__file__).parents[3] / "docs/settings.md"
ARM = ["ml.c6g.xlarge", "ml.c7g.2xlarge", "ml.m8g.large", "ml.r8g.medium", "ml.r7gd.4xlarge", "ml.p6e-gb200.36xlarge"]


def encoder(instance_type: str, precision: str = "fp32", **recipe: Any) -> dict[str, Any]:
    variants = {"A": {"precision": precision, "instance_type": instance_type}}
    models = {"m": {"source": {"kind": "demo"}, **recipe}}
    return {"kind": "encoder", "models": models, "endpoints": {"e": {"model": "m", "variants": variants}}}


def saved_model(instance_type: str, server: str = "tensorflow_serving", **endpoint: Any) -> dict[str, Any]:
    chosen = {"server": server, "instance_type": instance_type, **endpoint}
    return {"kind": "saved_model", "endpoints": {"e": chosen}}


def tabular(instance_type: str) -> dict[str, Any]:
    return {"kind": "tabular", "endpoints": {"e": {"instance_type": instance_type}}}


def neuron_encoder(instance_type: str) -> dict[str, Any]:
    chosen = {"hosting": "sagemaker", "model": "m", "device": "cpu", "virtual_cores": 2, "instance_type": instance_type}
    models = {"m": {"source": {"kind": "demo"}, "target": "cpu"}}
    return {"kind": "neuron_encoder", "models": models, "endpoints": {"e": chosen}}


def load(folder: Path, workload: dict[str, Any], **settings: Any) -> Deployment:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"environment": "mine", "workloads": {"w": workload}, **settings}))
    return Deployment.load(path)


def refusal(folder: Path, workload: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(DeploymentError) as raised:
        load(folder, workload, **settings)
    (line,) = str(raised.value).splitlines()
    return line


def named(line: str) -> list[str]:
    """Return the instance types that a refusal offers."""
    return [word.rstrip(",;") for word in line.partition("; use ")[2].split() if word.startswith("ml.")]


@pytest.mark.parametrize("instance_type", ARM)
@pytest.mark.parametrize("kind", [encoder, saved_model, tabular, neuron_encoder])
def test_an_arm_type_is_refused_by_every_kind_of_workload(tmp_path: Path, kind: Any, instance_type: str) -> None:
    line = refusal(tmp_path, kind(instance_type))
    assert f"instance_type is {instance_type!r}: its processor, " in line
    assert "is 64-bit Arm, and the image is built for x86; use " in line
    assert len(named(line)) == 3
    for other in named(line):
        assert load(tmp_path, kind(other)).workloads


@pytest.mark.parametrize(
    ("instance_type", "reason"),
    [
        ("ml.p3.2xlarge", "its machines have Intel Broadwell, without AVX-512 VNNI"),
        ("ml.g5.2xlarge", "its machines have AMD EPYC Rome, without"),
        ("ml.g6.xlarge", "its machines have AMD EPYC Milan, without"),
        ("ml.m4.xlarge", "its machines have Intel Haswell or Intel Broadwell, without"),
        ("ml.c5.2xlarge", "some of its machines have Intel Skylake, without"),
        ("ml.r5d.large", "some of its machines have Intel Skylake, without"),
    ],
)
@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        (lambda kind: encoder(kind, "int8"), "vnni"),
        (lambda kind: encoder(kind, "int8", engine="openvino"), "openvino"),
        (lambda kind: saved_model(kind, "openvino", precision="int8"), "openvino"),
    ],
)
def test_int8_is_refused_where_any_machine_lacks_vnni(
    tmp_path: Path, settings: Any, engine: str, instance_type: str, reason: str
) -> None:
    line = refusal(tmp_path, settings(instance_type))
    assert f"instance_type is {instance_type!r} with precision 'int8': {reason}" in line, engine
    assert line.endswith(", or precision: fp32")
    assert len(named(line)) == 3
    for other in named(line):
        assert 1 <= instance(other).vcpus / instance(instance_type).vcpus <= 2
        assert load(tmp_path, settings(other)).workloads


def test_the_cheapest_priced_type_is_offered_first(tmp_path: Path) -> None:
    assert named(refusal(tmp_path, encoder("ml.c5.2xlarge", "int8")))[0] == "ml.c6i.2xlarge"


@pytest.mark.parametrize("instance_type", ["ml.c5.2xlarge", "ml.g5.2xlarge", "ml.t2.large", "ml.p3.2xlarge"])
def test_fp32_runs_on_every_x86_type(tmp_path: Path, instance_type: str) -> None:
    assert load(tmp_path, encoder(instance_type)).workloads


def test_every_type_is_either_taken_or_refused_with_types_that_are_taken(tmp_path: Path) -> None:
    for each in instances():
        taken = each.family.architecture == "x86_64" and not each.family.without("avx512_vnni")
        off = {"guardrails": "off"}
        workload = saved_model(each.name, "openvino", precision="int8", **off)
        if taken:
            assert load(tmp_path, workload).workloads
        else:
            assert named(refusal(tmp_path, workload)), each.name


def test_a_fleet_of_arm_machines_builds_nothing(tmp_path: Path) -> None:
    line = refusal(tmp_path, encoder("ml.c6i.large"), model_build={"fleet_instance_type": "c7g.2xlarge"})
    assert "model_build.fleet_instance_type: 'c7g.2xlarge' has a 64-bit Arm processor" in line
    assert load(tmp_path, encoder("ml.c6i.large"), model_build={"fleet_instance_type": "m8i.2xlarge"}).workloads


def test_the_page_names_every_x86_family_on_which_int8_is_refused() -> None:
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith("| `precision: int8`"))
    named_families = set(re.findall(r"\b[A-Z][a-z]*\d\w*", row.partition("VNNI:")[2].partition("|")[0]))
    without = {
        name.removesuffix("d")
        for name, family in FAMILIES.items()
        if family.architecture == "x86_64" and family.without("avx512_vnni")
    }
    assert {name.lower() for name in named_families} == without
