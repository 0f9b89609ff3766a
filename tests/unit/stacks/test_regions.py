"""A region that does not exist, or lacks what a deployment uses, is refused before anything is deployed."""

import json
import re
from collections.abc import Set
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.loaders import Loader

from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.pipeline import Pipeline
from stacks.settings.regions import (
    FLEETS,
    WITHOUT_BUDGETS,
    WITHOUT_CODEBUILD,
    WITHOUT_COST_ANOMALIES,
    WITHOUT_INFERENCE_COMPONENTS,
    known_regions,
)

SCHEMAS = Path(str(files("cfnlint"))) / "data/schemas/providers"
"""CloudFormation's resource types by region, as cfn-lint ships them; `sam` is no region."""
ON_DEMAND = {"model_build": {"compute": "on_demand"}}
BUDGET = {"monthly_usd": 100, "email": "a@example.com"}
COMPONENT = {
    "kind": "saved_model",
    "endpoints": {
        "e": {
            "server": "openvino",
            "precision": "fp32",
            "inference_component": {"cpu_cores": 2, "memory_mib": 2048},
        }
    },
}


def churn(**endpoint: Any) -> dict[str, Any]:
    return {"kind": "tabular", "endpoints": {"e": endpoint}}


def write(folder: Path, name: str, **settings: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"environment": name, "workloads": {"w": churn()}} | settings))
    return path


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(DeploymentError) as raised:
        Deployment.load(write(folder, "mine", **settings))
    (line,) = str(raised.value).splitlines()
    return line


def pipeline(folder: Path, **settings: Any) -> Pipeline:
    dev = write(folder, "dev")
    prod = write(folder, "prod", profile="prod", workloads={"w": churn(instance_count=2)})
    connection = "arn:aws:codeconnections:us-east-1:123456789012:connection/a"
    content = {
        "name": "line",
        "source": {"connection_arn": connection, "repository": "o/r"},
        "dev": {"deployment": str(dev)},
        "prod": {"deployment": str(prod)},
        "load_tests": [{"workload": "w", "rate": 1, "gates": ["errors<=1%"]}],
    }
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump(content | settings))
    return Pipeline.named(str(path))


@pytest.mark.parametrize(
    ("region", "close"), [("eu-nowhere-1", "eu-north-1"), ("us-est-1", "us-east-1"), ("us-east-11", "us-east-1")]
)
def test_a_region_that_does_not_exist_is_refused_with_close_ones(tmp_path: Path, region: str, close: str) -> None:
    line = refusal(tmp_path, region=region)
    assert line.startswith(f"mine.yaml: region: {region!r} is not an AWS region; did you mean ")
    assert close in line


def test_a_region_that_resembles_none_gets_an_example(tmp_path: Path) -> None:
    assert refusal(tmp_path, region="mars").endswith("'mars' is not an AWS region; for example eu-west-1")


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "sa-east-1"])
def test_a_region_that_has_everything_is_taken(tmp_path: Path, region: str) -> None:
    settings = {"region": region, "budget": {**BUDGET, "anomaly_usd": 10}, "workloads": {"w": COMPONENT}}
    assert Deployment.load(write(tmp_path, "mine", **settings)).region == region


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "me-south-1"])
def test_regions_of_every_partition_exist(tmp_path: Path, region: str) -> None:
    assert Deployment.load(write(tmp_path, "mine", region=region, **ON_DEMAND)).region == region


@pytest.mark.parametrize(
    ("region", "settings", "parts"),
    [
        (
            "eu-west-3",
            {},
            ["model_build.compute is 'fleet' and region 'eu-west-3': CodeBuild has no fleets", "compute: on_demand"],
        ),
        ("ca-west-1", ON_DEMAND, ["region is 'ca-west-1': CloudFormation has no CodeBuild projects there"]),
        (
            "eu-north-1",
            {**ON_DEMAND, "budget": BUDGET},
            ["budget is set and region is 'eu-north-1': CloudFormation has no budgets there", "another region"],
        ),
        (
            "us-west-1",
            {**ON_DEMAND, "workloads": {"w": COMPONENT}},
            ["workloads.w.endpoints.e: inference_component is set and region is 'us-west-1'", "remove"],
        ),
    ],
)
def test_what_a_region_lacks_is_refused_with_what_to_do(
    tmp_path: Path, region: str, settings: dict[str, Any], parts: list[str]
) -> None:
    line = refusal(tmp_path, region=region, **settings)
    for part in parts:
        assert part in line


def test_a_deployment_without_builds_on_the_fleet_needs_none(tmp_path: Path) -> None:
    workload = {
        "kind": "neuron_encoder",
        "models": {"m": {"source": {"kind": "demo"}}},
        "endpoints": {"e": {"hosting": "sagemaker", "model": "m"}},
    }
    assert Deployment.load(write(tmp_path, "mine", region="eu-west-3", workloads={"w": workload})).region


def test_a_deployment_without_a_region_is_checked_in_those_of_its_pipeline(tmp_path: Path) -> None:
    assert pipeline(tmp_path, region="eu-west-1").loaded()
    with pytest.raises(DeploymentError, match=r"dev.yaml' in eu-west-3: model_build.compute is 'fleet'") as raised:
        pipeline(tmp_path, region="eu-west-3").loaded()
    assert len(str(raised.value).splitlines()) == 2, "dev and prod"
    stage = {"deployment": str(tmp_path / "prod.yaml"), "region": "ap-northeast-2"}
    with pytest.raises(DeploymentError, match=r"prod.deployment is .*in ap-northeast-2: model_build.compute"):
        pipeline(tmp_path, region="eu-west-1", prod=stage).loaded()


@pytest.mark.parametrize("region", ["eu-nowhere-1", "mx-central-1"])
def test_a_pipeline_is_refused_where_it_cannot_be(tmp_path: Path, region: str) -> None:
    with pytest.raises(DeploymentError, match=f"'{region}'"):
        pipeline(tmp_path, region=region)


def test_fleets_are_where_awss_reference_says() -> None:
    model = Loader().load_service_model("codebuild", "service-2")["shapes"]["CreateFleetInput"]
    items = re.findall("<li>.*?</li>", model["members"]["environmentType"]["documentation"])
    (linux,) = (item for item in items if "<code>LINUX_CONTAINER</code> is available only in regions" in item)
    assert {_NAMES[name] for name in re.findall(r"\(([^)]+)\)", linux)} == FLEETS


_NAMES = {
    "N. Virginia": "us-east-1", "Ohio": "us-east-2", "Oregon": "us-west-2", "Ireland": "eu-west-1",
    "Frankfurt": "eu-central-1", "Tokyo": "ap-northeast-1", "Singapore": "ap-southeast-1", "Sydney": "ap-southeast-2",
    "São Paulo": "sa-east-1", "Mumbai": "ap-south-1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("AWS::CodeBuild::Project", WITHOUT_CODEBUILD),
        ("AWS::Budgets::Budget", WITHOUT_BUDGETS),
        ("AWS::CE::AnomalyMonitor", WITHOUT_COST_ANOMALIES),
        ("AWS::CE::AnomalySubscription", WITHOUT_COST_ANOMALIES),
        ("AWS::SageMaker::InferenceComponent", WITHOUT_INFERENCE_COMPONENTS),
    ],
)
def test_the_regions_without_a_resource_type_are_those_of_cloudformations_schemas(kind: str, without: Set[str]) -> None:
    assert {region for region, types in _schemas().items() if kind not in types} == without


def test_every_region_with_fleets_has_their_resource_type() -> None:
    assert all("AWS::CodeBuild::Fleet" in _schemas()[region] for region in FLEETS)


def test_every_region_of_the_schemas_is_known() -> None:
    assert set(_schemas()) <= known_regions()


def _schemas() -> dict[str, Set[str]]:
    return {path.stem: json.loads(path.read_text()).keys() for path in SCHEMAS.glob("*-*.json")}


def test_the_page_lists_the_regions_with_fleets_and_those_without_codebuild() -> None:
    page = (Path(__file__).parents[3] / "docs/settings.md").read_text()
    assert f"| `model_build.compute: fleet` | {', '.join(sorted(FLEETS))} |" in page
    *most, last = sorted(WITHOUT_CODEBUILD)
    assert f"every region except {', '.join(most)} and {last} |" in page
