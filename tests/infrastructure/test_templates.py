"""What the synthesised templates promise."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly, run_app

Synthesise = Callable[..., Assembly]
DEPLOYMENTS = ("dev", "prod", "published")


def test_prod_needs_no_network_and_twice_gives_the_same_bytes(synthesise: Synthesise) -> None:
    first, second = synthesise("prod"), synthesise("prod", "again")
    names = sorted(path.name for path in first.folder.glob("*.template.json"))
    assert names == sorted(path.name for path in second.folder.glob("*.template.json"))
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_the_local_account_gets_the_templates_that_aws_gets(synthesise: Synthesise) -> None:
    aws = synthesise("dev", CDK_DEFAULT_ACCOUNT="123456789012", CDK_DEFAULT_REGION="eu-west-1")
    local = synthesise(
        "dev", CDK_DEFAULT_ACCOUNT="000000000000", CDK_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL="http://127.0.0.1:1"
    )
    assert aws.templates() == local.templates()


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_cfn_lint_finds_no_error(synthesise: Synthesise, deployment: str) -> None:
    templates = [str(path) for path in synthesise(deployment).folder.glob("*.template.json")]
    # W3005: the CDK states dependencies that a reference implies already. W6001: an output that a person
    # pastes holds the bucket of another stack.
    done = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--ignore-checks", "W3005", "W6001", "--", *templates],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def statements(assembly: Assembly, role: str) -> dict[str, list[str]]:
    """Actions of a role and the resources they are for, as one readable table."""
    found: dict[str, list[str]] = {}
    documents: list[dict[str, Any]] = []
    for name, resource in assembly.resources("AWS::IAM::Role").items():
        if role in name:
            documents += [p["PolicyDocument"] for p in resource["Properties"].get("Policies", [])]
    for resource in assembly.resources("AWS::IAM::Policy").values():
        if any(role in json.dumps(reference) for reference in resource["Properties"]["Roles"]):
            documents.append(resource["Properties"]["PolicyDocument"])
    for document in documents:
        for statement in document["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for action in actions:
                found.setdefault(action, []).extend(json.dumps(r) if isinstance(r, dict) else r for r in resources)
    return found


def test_the_execution_role_may_do_only_this(synthesise: Synthesise) -> None:
    granted = statements(synthesise("dev"), "DemoExecutionRole")
    assert set(granted) == {
        "s3:GetObject",
        "kms:Decrypt",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "cloudwatch:PutMetricData",
        "cloudwatch:DescribeAlarms",
    }
    # These two have no resource-level permission in IAM.
    assert {action for action, resources in granted.items() if "*" in resources} == {
        "ecr:GetAuthorizationToken",
        "cloudwatch:PutMetricData",
    }
    assert all("model.tar.gz" in resource for resource in granted["s3:GetObject"])


def test_the_builder_functions_may_do_only_this(synthesise: Synthesise) -> None:
    assembly = synthesise("dev")
    listing = {"s3:ListBucket", "s3:ListBucketVersions", "kms:Decrypt", "s3:GetObject"}
    assert set(statements(assembly, "ArtifactBuilderOnEventServiceRole")) == listing | {
        "codebuild:StartBuild",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
    }
    assert set(statements(assembly, "ArtifactBuilderIsCompleteServiceRole")) == listing | {"codebuild:BatchGetBuilds"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_only_endpoints_are_named_so_that_every_change_can_replace_the_rest(
    synthesise: Synthesise, deployment: str
) -> None:
    assembly = synthesise(deployment)
    for kind, name in (("Model", "ModelName"), ("EndpointConfig", "EndpointConfigName")):
        assert all(name not in r["Properties"] for r in assembly.resources(f"AWS::SageMaker::{kind}").values())
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        assert endpoint["Properties"]["EndpointName"].startswith(f"{deployment}-bert-int8-")
        assert endpoint["Properties"]["RetainAllVariantProperties"] is True


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_endpoint_is_isolated_encrypted_and_rolls_back_on_alarms(synthesise: Synthesise, deployment: str) -> None:
    assembly = synthesise(deployment)
    for model in assembly.resources("AWS::SageMaker::Model").values():
        assert model["Properties"]["EnableNetworkIsolation"] is True
    for config in assembly.resources("AWS::SageMaker::EndpointConfig").values():
        assert "KmsKeyId" in config["Properties"]
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        alarms = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        assert 1 <= len(alarms) <= 10


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_buckets_are_private_encrypted_and_tls_only(synthesise: Synthesise, deployment: str) -> None:
    assembly = synthesise(deployment)
    buckets = assembly.resources("AWS::S3::Bucket")
    assert len(buckets) == 2
    for bucket in buckets.values():
        assert bucket["Properties"]["BucketEncryption"]
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    policies = json.dumps(list(assembly.resources("AWS::S3::BucketPolicy").values()))
    assert policies.count('"aws:SecureTransport": "false"') == 2
    keys = assembly.resources("AWS::KMS::Key").values()
    assert all(key["Properties"]["EnableKeyRotation"] for key in keys)


def test_destroy_removes_dev_and_keeps_the_data_of_prod(synthesise: Synthesise) -> None:
    for deployment, policy in (("dev", "Delete"), ("prod", "Retain")):
        buckets = synthesise(deployment).resources("AWS::S3::Bucket").values()
        assert {bucket["DeletionPolicy"] for bucket in buckets} == {policy}


def test_prod_scales_captures_and_has_a_budget(synthesise: Synthesise) -> None:
    prod = synthesise("prod")
    (target,) = prod.resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert (target["Properties"]["MinCapacity"], target["Properties"]["MaxCapacity"]) == (2, 10)
    assert target["DependsOn"], "a scalable target must wait for its endpoint"
    (config,) = prod.resources("AWS::SageMaker::EndpointConfig").values()
    assert config["Properties"]["DataCaptureConfig"]["KmsKeyId"]
    assert len(prod.resources("AWS::Budgets::Budget")) == 1


def test_a_change_of_recipe_changes_the_artifact_and_nothing_else_does(synthesise: Synthesise, tmp_path: Path) -> None:
    def prefixes(assembly: Assembly) -> dict[str, str]:
        resources = assembly.resources("Custom::BuiltArtifact").values()
        return {r["Properties"]["Prefix"].split("/")[1]: r["Properties"]["Prefix"] for r in resources}

    root = Path(__file__).parents[2]
    text = (root / "deployments/dev.yaml").read_text()
    tagged, changed = tmp_path / "tagged.yaml", tmp_path / "changed.yaml"
    tagged.write_text(text.replace("project: sagemaker", "team: ml, project: sagemaker"))
    changed.write_text(text.replace("max_seq_length: 320", "max_seq_length: 256"))
    before = prefixes(synthesise("dev"))
    assert prefixes(synthesise(str(tagged))) == before
    after = prefixes(synthesise(str(changed)))
    assert after["minilm_demo"] != before["minilm_demo"]
    assert after["bert_base_shape"] == before["bert_base_shape"]


def test_a_wrong_deployment_is_a_clean_error_and_no_traceback(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("environment: dev\nworkload: {}\n")
    done = run_app(tmp_path / "out", str(wrong))
    assert done.returncode == 1
    assert "unknown key 'workload'; did you mean 'workloads'?" in done.stderr
    assert "Traceback" not in done.stderr
