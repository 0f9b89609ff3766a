"""A deployment that has a stack no longer can be deployed, and deletes that stack last."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
ENDPOINT = {"instance_type": "ml.c6i.large"}
WORKLOADS: dict[str, dict[str, Any]] = {
    "tables": {"kind": "tabular", "endpoints": {"main": {"instance_type": "ml.c5.large"}}},
    "compiled": {
        "kind": "saved_model",
        "recipe": {"preset": "demo"},
        "endpoints": {"cpu": {"server": "neo", "neo": {"target_device": "ml_c5"}, "instance_type": "ml.c5.xlarge"}},
    },
    "answers": {
        "kind": "encoder",
        "models": {"demo": {"source": {"kind": "demo"}, "max_seq_length": 320, "doc_stride": 96}},
        "endpoints": {"main": {"model": "demo", "variants": {"Only": {"precision": "fp32", **ENDPOINT}}}},
    },
    "packed": {
        "kind": "neuron_encoder",
        "models": {"demo": {"source": {"kind": "demo"}, "target": "inf2", "lengths": [128, 256], "batches": [1]}},
        "endpoints": {"main": {"hosting": "ec2", "model": "demo", "instance_type": "inf2.xlarge"}},
    },
}


@pytest.fixture(scope="module")
def deployed(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Assembly]:
    """Synthesizes a deployment of some of the workloads."""
    folder = tmp_path_factory.mktemp("deployment")

    def make(*names: str, **settings: Any) -> Assembly:
        path = folder / f"{'-'.join(names)}{len(settings)}.yaml"
        workloads = {name: WORKLOADS[name] for name in names}
        path.write_text(yaml.safe_dump({"environment": "all", "workloads": workloads, **settings}, sort_keys=False))
        return synthesize(str(path))

    return make


def exports(assembly: Assembly) -> dict[str, set[str]]:
    return {
        stack: {output["Export"]["Name"] for output in template.get("Outputs", {}).values() if "Export" in output}
        for stack, template in assembly.templates().items()
    }


def listed(assembly: Assembly) -> list[str]:
    ((_, resource),) = assembly.resources("Custom::RemovedStacks").items()
    names: list[str] = resource["Properties"]["Stacks"]
    return names


def test_no_export_depends_on_the_workloads(deployed: Callable[..., Assembly]) -> None:
    every = exports(deployed(*WORKLOADS, load_test={}))
    assert every.pop("All-Foundation")
    assert not any(every.values())
    for name in WORKLOADS:
        assert (
            exports(deployed(name))["All-Foundation"] == exports(deployed(*WORKLOADS, load_test={}))["All-Foundation"]
        )


def test_the_list_names_every_other_stack_in_the_order_of_deployment(deployed: Callable[..., Assembly]) -> None:
    names = listed(deployed("tables", "compiled", load_test={}))
    assert names == [
        "All-Foundation", "All-ModelBuild", "All-Tables", "All-Compiled", "All-LoadTest",
        "All-Monitoring",
    ]  # fmt: skip


def test_the_stack_is_deployed_last_and_destroyed_first(deployed: Callable[..., Assembly]) -> None:
    assembly = deployed("tables", "compiled", load_test={})
    artifacts = json.loads((assembly.folder / "manifest.json").read_text())["artifacts"]
    assert set(listed(assembly)) <= set(artifacts["All-Cleanup"]["dependencies"])


def test_it_may_delete_the_stacks_of_its_environment_only(deployed: Callable[..., Assembly]) -> None:
    policies = deployed("tables", "compiled", load_test={}).resources("AWS::IAM::Policy")
    statements = [
        statement
        for name, policy in policies.items()
        if name.startswith("All-Cleanup")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "cloudformation:DeleteStack" in statement["Action"]
    ]
    assert len(statements) == 2
    for statement in statements:
        assert statement["Action"] == ["cloudformation:DeleteStack", "cloudformation:DescribeStacks"]
        assert ":stack/All-*" in json.dumps(statement["Resource"])


def test_what_a_past_workload_left_may_be_removed(deployed: Callable[..., Assembly]) -> None:
    policies = deployed("tables").resources("AWS::IAM::Policy")
    deleting = [
        statement
        for policy in policies.values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "s3:DeleteObjectVersion" in statement["Action"]
    ]
    assert deleting
    assert all("tables" not in json.dumps(statement["Resource"]) for statement in deleting)
