"""A deployment file that cannot work is refused with the key, the value and what is valid."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from stacks.settings.deployment import Deployment, DeploymentError

DEPLOYMENTS = Path(__file__).parents[3] / "deployments"


def variant(**changes: Any) -> dict[str, Any]:
    return {"precision": "fp32", "instance_type": "ml.c6i.2xlarge", **changes}


def document(variants: dict[str, Any] | None = None, **endpoint: Any) -> dict[str, Any]:
    chosen = {"model": "m", "variants": variants or {"A": variant()}, **endpoint}
    return {
        "environment": "dev",
        "workloads": {
            "encoder": {"kind": "encoder", "models": {"m": {"source": {"kind": "demo"}}}, "endpoints": {"e": chosen}}
        },
    }


def churn(**changes: Any) -> dict[str, Any]:
    settings = {"endpoints": {"e": {"instance_type": "ml.c5.xlarge"}}, **changes}
    return {"environment": "dev", "workloads": {"tabular": {"kind": "tabular", **settings}}}


def unet(**endpoint: Any) -> dict[str, Any]:
    settings = {"endpoints": {"e": {"server": "openvino", "precision": "int8", **endpoint}}}
    return {"environment": "dev", "workloads": {"saved_model": {"kind": "saved_model", **settings}}}


def load(tmp_path: Path, content: Any) -> Deployment:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(content))
    return Deployment.load(path)


@pytest.mark.parametrize("name", ["dev", "prod", "published"])
def test_the_shipped_deployments_are_valid(name: str) -> None:
    assert Deployment.load(DEPLOYMENTS / f"{name}.yaml").environment == name


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, document()).environment = "other"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({**document(), "colour": 1}, ["unknown key 'colour'", "valid keys: environment"]),
        (document(varients={}), ["unknown key 'varients'", "did you mean 'variants'?"]),
        (document({"A": variant(instance_type="ml.c6i.2xlarg")}), ["ml.c6i.2xlarg", "did you mean", "ml.c6i.2xlarge"]),
        (document({"A": variant(precision="int4")}), ["precision", "'int4'", "'fp32' or 'int8'"]),
        (document({"A": variant(precision="int8", instance_type="ml.c5.2xlarge")}), ["VNNI", "ml.c6i"]),
        (document({"A": variant(weight=0)}), ["every weight is 0"]),
        (document({"A": variant(enabled=False)}), ["no variant is enabled"]),
        (document({f"V{i}": variant() for i in range(11)}), ["11 variants", "allows 10"]),
        (document(model="other"), ["endpoints.e.model is 'other'", "choose one of models: m"]),
        (
            document(scaling={"min_capacity": 3, "max_capacity": 2, "target_invocations_per_instance": 10}),
            ["min_capacity is 3", "max_capacity 2"],
        ),
        (
            document(scaling={"min_capacity": 2, "max_capacity": 4, "target_invocations_per_instance": 10}),
            ["variants.A.instance_count is 1"],
        ),
        (
            document(
                scaling={"target_invocations_per_instance": 10, "target_concurrent_requests_per_model": 2},
            ),
            ["set one of target_invocations_per_instance and target_concurrent_requests_per_model, not both"],
        ),
        (document(scaling={"max_capacity": 2}), ["nothing scales: set target_invocations_per_instance"]),
        (
            document(scaling={"min_capacity": 0, "target_invocations_per_instance": 10}),
            ["scaling.min_capacity is 0", "only an endpoint of inference components scales to zero"],
        ),
        (
            document(
                scaling={
                    "schedules": {"night": {"schedule": "cron(0 20 * * ? *)", "min_capacity": 0, "max_capacity": 1}}
                }
            ),
            ["scaling.schedules.night.min_capacity is 0", "only an endpoint of inference components"],
        ),
        (
            document(scaling={"schedules": {"night": {"schedule": "20:00", "min_capacity": 1, "max_capacity": 1}}}),
            ["schedules.night.schedule", "'20:00'"],
        ),
        (
            document(
                scaling={
                    "step": {
                        "threshold_invocations_per_instance": 10,
                        "steps": [{"over": 5, "change": 1}, {"over": 2, "change": 2}],
                    }
                }
            ),
            ["the steps' over are [5.0, 2.0]", "begin with 0"],
        ),
        (
            document(scaling={"step": {"threshold_invocations_per_instance": 10, "steps": [{"over": 0, "change": 0}]}}),
            ["change is 0"],
        ),
        (churn(container="builtin", memory_per_model_mib=200), ["memory_per_model_mib is 200", "use container: trees"]),
        (churn(container="other"), ["container", "'trees' or 'builtin'"]),
        (churn(endpoints={}), ["endpoints", "at least 1"]),
        (churn(recipe={"source": {"kind": "s3", "url": "churn.csv"}}), ["recipe.source.s3.url", "'churn.csv'"]),
        ({**churn(), "profile": "prod"}, ["workloads.tabular.endpoints.e.instance_count is 1 in profile prod"]),
        (
            churn(
                endpoints={
                    "e": {"scaling": {"min_capacity": 2, "max_capacity": 5, "target_invocations_per_instance": 4000}}
                }
            ),
            ["instance_count is 1: it must lie between scaling.min_capacity 2 and max_capacity 5"],
        ),
        (unet(precision=None), ["server is 'openvino' and precision None"]),
        (unet(server="tensorflow_serving"), ["server is 'tensorflow_serving' and precision 'int8'", "takes none"]),
        (unet(tensorflow_serving={}), ["tensorflow_serving is set with server 'openvino'"]),
        (unet(workers=9), ["workers is 9", "at most the instance's 8 vCPUs"]),
        (unet(workers=2, server="tensorflow_serving", precision=None), ["workers is 2", "it is for openvino"]),
        (unet(instance_type="ml.c5.xlarge"), ["VNNI", "ml.c6i"]),
        (
            unet(scaling={"min_capacity": 0, "target_invocations_per_instance": 10}),
            ["scaling.min_capacity is 0", "only an endpoint of inference components scales to zero"],
        ),
        (churn(endpoints={"e" * 31: {}, "x" * 32: {}}), ["x" * 32]),
        ({**document(), "profile": "prod"}, ["instance_count is 1 in profile prod", "at least 2"]),
        ({**document(), "environment": "Dev_1"}, ["environment", "'Dev_1'"]),
        ({**document(), "workloads": {}}, ["workloads is empty"]),
        ({"environment": "dev"}, ["workloads", "Field required"]),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, content: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(DeploymentError) as raised:
        load(tmp_path, content)
    for part in ["some.yaml", *expected]:
        assert part in str(raised.value)


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError) as raised:
        load(tmp_path, document({"A": variant(precision="x"), "B": variant(instance_type="y")}))
    assert len(str(raised.value).splitlines()) == 2


def test_a_missing_file_names_the_ones_that_exist() -> None:
    with pytest.raises(DeploymentError, match="'nope' was not found; choose one of: dev, prod, prod-local, published"):
        Deployment.load(DEPLOYMENTS / "nope.yaml")


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(DeploymentError, match=r"bad\.yaml line 1, column 5"):
        Deployment.load(path)


@pytest.mark.parametrize(
    ("workloads", "part"),
    [
        ({"qa": {}}, "workloads.qa.kind is missing: give one of encoder, neuron_encoder, saved_model, tabular"),
        ({"qa": {"kind": "encodr"}}, "workloads.qa.kind is 'encodr': did you mean 'encoder'?"),
        ({"model_build": churn()["workloads"]["tabular"]}, "would have the name of the stack ModelBuild"),
        ({"cache": churn()["workloads"]["tabular"]}, "would have the name of the prefix cache/ of the artifact bucket"),
        (
            {"a_1b": churn()["workloads"]["tabular"], "a1b": churn()["workloads"]["tabular"]},
            "workloads.a_1b and workloads.a1b would give their resources one name",
        ),
        (
            {
                "a": churn(endpoints={"b_c": {}})["workloads"]["tabular"],
                "a_b": churn(endpoints={"c": {}})["workloads"]["tabular"],
            },
            "workloads.a_b.endpoints.c and workloads.a.endpoints.b_c would both be named 'dev-a-b-c'",
        ),
    ],
)
def test_workloads_that_cannot_stand_next_to_each_other_are_refused(workloads: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Deployment.model_validate({"environment": "dev", "workloads": workloads})
    assert part in str(raised.value)


def test_any_number_of_workloads_may_be_of_one_kind() -> None:
    settings = churn()["workloads"]["tabular"]
    deployment = Deployment.model_validate({"environment": "dev", "workloads": {"eu": settings, "us": settings}})
    assert [deployment.endpoint_name(name, "e") for name in deployment.workloads] == ["dev-eu-e", "dev-us-e"]
