"""Everything in a network without internet, every role bounded: one deployment with all that can be locked down."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.checks.endpoints import check
from tests.infrastructure.conftest import Assembly, run_app

PRIVATE = Path(__file__).with_name("private_network.yaml")
Synthesize = Callable[..., Assembly]


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize) -> Assembly:
    return synthesize(str(PRIVATE))


def properties(assembly: Assembly, kind: str) -> dict[str, dict[str, Any]]:
    found = {name: resource["Properties"] for name, resource in assembly.resources(kind).items()}
    assert found, kind
    return found


def test_it_keeps_to_the_rules_of_cdk_nag_and_of_this_project(assembly: Assembly, tmp_path: Path) -> None:
    done = run_app(tmp_path / "out", str(PRIVATE), {"nag": "true"}, CDK_VALIDATION="false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not check(assembly.templates(), profile="prod")


def test_no_network_has_a_way_to_the_internet(assembly: Assembly) -> None:
    assert len(properties(assembly, "AWS::EC2::VPC")) == 2, "everything's, and the fleet's own"
    for kind in ("InternetGateway", "NatGateway", "EIP", "VPCGatewayAttachment", "EgressOnlyInternetGateway"):
        assert not assembly.resources(f"AWS::EC2::{kind}"), kind
    assert not assembly.resources("AWS::EC2::Route")
    assert {s["MapPublicIpOnLaunch"] for s in properties(assembly, "AWS::EC2::Subnet").values()} == {False}


def placed(assembly: Assembly) -> Iterator[tuple[str, Any]]:
    """Where each thing that runs stands."""
    for name, model in properties(assembly, "AWS::SageMaker::Model").items():
        yield name, model.get("VpcConfig")
    for name, function in properties(assembly, "AWS::Lambda::Function").items():
        yield name, function.get("VpcConfig")
    for name, fleet in properties(assembly, "AWS::CodeBuild::Fleet").items():
        yield name, fleet.get("FleetVpcConfig")
    for name, project in properties(assembly, "AWS::CodeBuild::Project").items():
        if "Fleet" not in project["Environment"]:
            yield name, project.get("VpcConfig")


def test_models_builds_and_functions_stand_in_the_network(assembly: Assembly) -> None:
    where = dict(placed(assembly))
    assert len(where) >= 15
    assert [name for name, config in where.items() if config is None] == []
    for config in where.values():
        assert "PrivateMembers" in json.dumps(config) and "PrivateNetworkVpc" in json.dumps(config)


def test_load_tests_stand_in_the_network_and_make_none_of_their_own(assembly: Assembly) -> None:
    template = assembly.templates()["Prod-LoadTest"]
    assert "PrivateNetworkVpc" in json.dumps(template["Outputs"]["Subnets"])
    assert not any(r["Type"].startswith("AWS::EC2::") for r in template["Resources"].values())


def test_every_service_that_is_called_has_an_endpoint_for_this_account_only(assembly: Assembly) -> None:
    endpoints = {
        name: endpoint
        for name, endpoint in properties(assembly, "AWS::EC2::VPCEndpoint").items()
        if name.startswith("Prod-Foundation/")
    }
    services = " ".join(json.dumps(endpoint["ServiceName"]) for endpoint in endpoints.values())
    for service in (
        "sagemaker.runtime", "sagemaker.api", "ecr.api", "ecr.dkr", "logs", "sts", "kms", "monitoring", "codebuild",
        "lambda", "states", "codeartifact.api", "codeartifact.repositories", "s3",
    ):  # fmt: skip
        assert f".{service}" in services, service
    account = {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}
    for name, endpoint in endpoints.items():
        statements = endpoint["PolicyDocument"]["Statement"]
        if endpoint["VpcEndpointType"] == "Interface":
            assert [each["Condition"] for each in statements] == [account], name
        else:
            anybody = [each for each in statements if "Condition" not in each]
            assert {each["Action"] for each in anybody} == {"s3:GetObject", "s3:PutObject"}
            assert all(resource != "*" for each in anybody for resource in each["Resource"])


def test_nothing_comes_in_and_only_https_and_load_tests_go_out(assembly: Assembly) -> None:
    rules = {
        (kind, rule["FromPort"])
        for kind in ("Ingress", "Egress")
        for name, rule in properties(assembly, f"AWS::EC2::SecurityGroup{kind}").items()
        if name.startswith("Prod-Foundation/PrivateMembers")
    }
    (group,) = (g for n, g in properties(assembly, "AWS::EC2::SecurityGroup").items() if "PrivateMembers" in n)
    rules |= {("Egress", rule["FromPort"]) for rule in group["SecurityGroupEgress"]}
    assert rules == {("Ingress", 5557), ("Egress", 5557), ("Egress", 443)}
    assert "SecurityGroupIngress" not in group


def test_builds_take_packages_from_the_mirror_and_their_token_from_secrets_manager(assembly: Assembly) -> None:
    for name, project in properties(assembly, "AWS::CodeBuild::Project").items():
        given = {each["Name"]: each for each in project["Environment"]["EnvironmentVariables"]}
        assert given["PACKAGE_INDEX"]["Value"].endswith("/pypi/mirror/simple/"), name
        assert given["HF_TOKEN"]["Type"] == "SECRETS_MANAGER", name
    roles = [r for n, r in properties(assembly, "AWS::IAM::Policy").items() if "BuildRole" in n]
    allowed = json.dumps(roles)
    assert "repository/packages/mirror" in allowed and ":domain/packages" in allowed
    assert "secret:hub-AbCdEf" in allowed


def test_every_role_has_the_permissions_boundary(assembly: Assembly) -> None:
    roles = properties(assembly, "AWS::IAM::Role")
    assert any("Framework" in name for name in roles) and any("waiterstatemachine" in name for name in roles)
    for name, role in roles.items():
        assert json.dumps(role["PermissionsBoundary"]).endswith(':policy/platform/boundary"]]}'), name


def test_a_boundary_reaches_the_roles_that_the_cdk_makes_for_a_bucket_that_is_emptied(
    synthesize: Synthesize, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "deployments/dev.yaml").read_text()
    bounded = tmp_path / "bounded.yaml"
    arn = "arn:aws:iam::123456789012:policy/boundary"
    bounded.write_text(f"permissions_boundary: {arn}\n{text}")
    roles = properties(synthesize(str(bounded)), "AWS::IAM::Role")
    assert any("CustomS3AutoDeleteObjects" in name for name in roles)
    assert {role["PermissionsBoundary"] for role in roles.values()} == {arn}
