"""What the delivery pipeline does with a push, in which order, and with what rights."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from load_tests.gates import parse_gate
from stacks.naming import camel
from stacks.settings.deployment import DeploymentError
from stacks.settings.pipeline import Pipeline
from tests import by_kind
from tests.infrastructure.conftest import ROOT, run_app

Template = dict[str, Any]
ENCODER, TABULAR = by_kind.shipped_name("encoder"), by_kind.shipped_name("tabular")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    done = run_app(folder, "", {"pipeline": "main", "nag": "true"}, CDK_VALIDATION="false")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "nag.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def template(output: Path) -> Template:
    read: Template = json.loads((output / "Pipeline-main.template.json").read_text())
    return read


def resources(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in template["Resources"].items() if each["Type"] == kind}


@pytest.fixture(scope="module")
def stages(template: Template) -> dict[str, dict[str, Any]]:
    (pipeline,) = resources(template, "AWS::CodePipeline::Pipeline").values()
    return {stage["Name"]: stage for stage in pipeline["Properties"]["Stages"]}


def commands(template: Template, project: str) -> str:
    (found,) = (
        each["Properties"]["Source"]["BuildSpec"]
        for name, each in resources(template, "AWS::CodeBuild::Project").items()
        if project in name
    )
    return str(json.loads(found)["phases"]["build"]["commands"])


def test_a_push_is_tested_deployed_to_dev_loaded_approved_and_deployed_to_prod_in_this_order(
    stages: Mapping[str, Any],
) -> None:
    assert list(stages) == ["Source", "Build", "UpdatePipeline", "Assets", "Dev", "Approval", "Prod"]
    order = {action["Name"]: action["RunOrder"] for action in stages["Dev"]["Actions"]}
    loads = {name: at for name, at in order.items() if name.startswith("LoadTest-")}
    assert set(loads) == {f"LoadTest-{camel(TABULAR)}-Large", f"LoadTest-{camel(ENCODER)}-Demo"}
    assert min(loads.values()) > max(at for name, at in order.items() if name not in loads)
    (approval,) = stages["Approval"]["Actions"]
    assert approval["ActionTypeId"]["Category"] == "Approval"


def test_the_build_runs_the_tests_and_synthesizes_this_pipeline(template: Template) -> None:
    text = commands(template, "BuildSynth")
    assert text.index("scripts/test") < text.index("scripts/synth pipeline=main")
    for script in re.findall(r"scripts/[\w-]+", text):
        assert (ROOT / script).exists()


def test_a_load_test_decides_by_its_gates_and_its_exit_code(template: Template) -> None:
    text = commands(template, f"LoadTest{camel(TABULAR)}Large")
    (command,) = (shlex.split(line) for line in yaml.safe_load(text))
    assert command[:2] == ["scripts/load-test", TABULAR]
    assert "--rate" in command and command[command.index("--deployment") + 1] == "dev"
    gates = [command[at + 1] for at, part in enumerate(command) if part == "--gate"]
    assert gates == ["p99<=100", "errors<=0.1%", "rate>=99%"]
    for gate in gates:
        parse_gate(gate)


def test_a_load_test_may_ask_its_endpoint_and_no_other(template: Template) -> None:
    construct = f"LoadTest{camel(TABULAR)}"
    (policy,) = (each for name, each in resources(template, "AWS::IAM::Policy").items() if construct in name)
    (asked,) = (
        statement["Resource"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Action"] == "sagemaker:InvokeEndpoint"
    )
    endpoint = f"/dev-{TABULAR}-large".replace("_", "-")
    assert all(str(each).count(endpoint) == 1 for each in asked)


def test_prod_rolls_back_when_it_fails_or_an_endpoint_alarms_in_the_half_hour_after(stages: Mapping[str, Any]) -> None:
    assert stages["Prod"]["OnFailure"] == {"Result": "ROLLBACK"}
    (condition,) = stages["Prod"]["OnSuccess"]["Conditions"]
    assert condition["Result"] == "ROLLBACK"
    watched = [rule["Configuration"] for rule in condition["Rules"]]
    endpoints = (f"prod-{ENCODER}-qa", f"prod-{TABULAR}-churn")
    assert {each["AlarmName"] for each in watched} == {f"{name.replace('_', '-')}-any" for name in endpoints}
    assert {(each["AlarmStates"], each["WaitTime"]) for each in watched} == {("ALARM", "30")}
    assert "OnFailure" not in stages["Approval"], "who refuses an update has not asked for the one before"


def test_stages_deploy_the_stacks_that_the_command_line_deploys(output: Path, tmp_path: Path) -> None:
    assert run_app(tmp_path, "dev", CDK_VALIDATION="false").returncode == 0
    folder = output / "assembly-Pipeline-main-Dev"
    manifest = json.loads((folder / "manifest.json").read_text())["artifacts"].values()
    staged = {
        each["properties"]["stackName"]: json.loads((folder / each["properties"]["templateFile"]).read_text())
        for each in manifest
        if each["type"] == "aws:cloudformation:stack"
    }
    alone = {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in tmp_path.glob("*.template.json")
    }
    # The framework of custom resources describes its functions by their place in the app.
    told = re.compile(r"\((Pipeline-main/Dev/|Dev-)(\S+)\)")
    assert {name: json.loads(told.sub(r"(\2)", json.dumps(each))) for name, each in staged.items()} == {
        name: json.loads(told.sub(r"(\2)", json.dumps(each))) for name, each in alone.items()
    }


def test_what_goes_through_is_encrypted_by_a_key_of_the_pipeline_and_logged_under_it(template: Template) -> None:
    (pipeline,) = resources(template, "AWS::CodePipeline::Pipeline").values()
    (key,) = resources(template, "AWS::KMS::Key")
    assert pipeline["Properties"]["ArtifactStore"]["EncryptionKey"]["Id"] == {"Fn::GetAtt": [key, "Arn"]}
    for project in resources(template, "AWS::CodeBuild::Project").values():
        assert project["Properties"]["EncryptionKey"] == {"Fn::GetAtt": [key, "Arn"]}
    assert all("KmsKeyId" in group["Properties"] for group in resources(template, "AWS::Logs::LogGroup").values())


def test_the_programs_that_deploy_are_pinned(template: Template) -> None:
    text = json.dumps(template)
    pinned = json.loads((ROOT / "package.json").read_text())["dependencies"]["aws-cdk"]
    assert f"aws-cdk@{pinned}" in text
    assert not re.search(r"npm install -g (aws-cdk|cdk-assets)(@(latest|\d+)?)?[\"\\\s]", text)


def test_cdk_nag_finds_nothing_in_it_that_is_not_explained(output: Path, figure: Callable[[str], None]) -> None:
    told = (output / "nag.txt").read_text().strip()
    assert told.endswith(" 0 open, 0 left over")
    figure(f"cdk-nag: pipeline {told}")


def test_twice_gives_the_same_bytes(output: Path, tmp_path: Path) -> None:
    assert run_app(tmp_path, "", {"pipeline": "main"}, CDK_VALIDATION="false").returncode == 0
    name = "Pipeline-main.template.json"
    assert (tmp_path / name).read_bytes() == (output / name).read_bytes()


CONNECTION = "arn:aws:codeconnections:us-east-1:123456789012:connection/0"
GOOD: dict[str, Any] = {
    "name": "tried",
    "source": {"connection_arn": CONNECTION, "repository": "example/stacks"},
    "dev": {"deployment": "dev"},
    "prod": {"deployment": "prod"},
    "load_tests": [{"workload": TABULAR, "users": 2, "gates": ["errors<=1%"]}],
}
WRONG: Mapping[str, tuple[dict[str, Any], str]] = {
    "a production of another profile": ({"prod": {"deployment": "published"}}, "name one of profile prod"),
    "one environment twice": ({"dev": {"deployment": "prod"}}, "name two deployments"),
    "a load test of what dev has not": (
        {"load_tests": [{"workload": "nothing", "users": 2, "gates": ["errors<=1%"]}]},
        "load_tests.0.workload is 'nothing': choose one of encoder",
    ),
    "a load test where nothing can run": (
        {"load_tests": [{"workload": TABULAR, "users": 2, "gates": ["errors<=1%"], "on": "fargate"}]},
        "dev has no load_test: add it, or use machine",
    ),
    "a load test without a load": (
        {"load_tests": [{"workload": TABULAR, "gates": ["errors<=1%"]}]},
        "rate is None and users None: give one of them",
    ),
    "a certain place from anywhere": (
        {"prod": {"deployment": "prod", "account": "123456789012"}},
        "prod.account is set but the pipeline's account is not",
    ),
    "another account's alarms": (
        {"account": "111111111111", "prod": {"deployment": "prod", "account": "222222222222"}, "watch_minutes": 5},
        "CodePipeline can watch only alarms of its own account",
    ),
    "another account without a role": (
        {"account": "111111111111", "dev": {"deployment": "dev", "account": "222222222222"}},
        "set the role if dev is in another account",
    ),
    "an unknown key": ({"watch_minuts": 5}, "did you mean 'watch_minutes'"),
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "tried.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return str(path)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_pipeline_that_cannot_be_is_refused_with_the_fix(tmp_path: Path, wrong: str) -> None:
    changes, told = WRONG[wrong]
    with pytest.raises(DeploymentError, match=re.escape(told)):
        Pipeline.named(write(tmp_path, **changes)).loaded()


def test_a_pipeline_that_is_not_there_says_which_are() -> None:
    with pytest.raises(DeploymentError, match="choose one of: main"):
        Pipeline.named("other")


def test_stages_in_other_accounts_and_regions_are_deployed_to_by_their_bootstrap_roles(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        account="111111111111",
        region="eu-west-1",
        dev={"deployment": "dev", "account": "222222222222"},
        prod={"deployment": "prod", "account": "333333333333"},
        load_test_role_arn="arn:aws:iam::222222222222:role/load-tests",
    )
    done = run_app(tmp_path / "out", "", {"pipeline": path}, CDK_VALIDATION="false")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/Pipeline-tried.template.json").read_text()
    assert "role/cdk-hnb659fds-deploy-role-333333333333-eu-west-1" in text
    assert "aws configure set role_arn arn:aws:iam::222222222222:role/load-tests" in text
    assert "cloudwatch:DescribeAlarms" not in text


def test_the_connection_is_allowed_under_both_names_of_its_service(template: Template) -> None:
    granted = statements(template, "UseConnection")
    for service in ("codeconnections", "codestar-connections"):
        allowed = [each["Resource"] for each in granted if f"{service}:UseConnection" in each["Action"]]
        assert any(f":{service}:" in arn for arn in allowed), allowed


def test_composite_alarms_are_described_with_the_only_resource_that_returns_them(template: Template) -> None:
    assert [each["Resource"] for each in statements(template, "cloudwatch:DescribeAlarms")] == ["*"]


def statements(template: Template, action: str) -> list[dict[str, Any]]:
    return [
        statement
        for policy in resources(template, "AWS::IAM::Policy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if action in json.dumps(statement["Action"])
    ]
