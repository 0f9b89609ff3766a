"""What the synthesized templates promise."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import by_kind
from tests.infrastructure.conftest import Assembly, run_app

Synthesize = Callable[..., Assembly]
DEPLOYMENTS = ("dev", "prod", "published")


def test_prod_needs_no_network_and_twice_gives_the_same_bytes(synthesize: Synthesize) -> None:
    first, second = synthesize("prod"), synthesize("prod", "again")
    names = sorted(path.name for path in first.folder.glob("*.template.json"))
    assert names == sorted(path.name for path in second.folder.glob("*.template.json"))
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_the_local_account_gets_the_templates_that_aws_gets(synthesize: Synthesize) -> None:
    aws = synthesize("dev", CDK_DEFAULT_ACCOUNT="123456789012", CDK_DEFAULT_REGION="eu-west-1")
    local = synthesize(
        "dev", CDK_DEFAULT_ACCOUNT="000000000000", CDK_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL="http://127.0.0.1:1"
    )
    assert aws.templates() == local.templates()


@pytest.mark.parametrize("deployment", [*DEPLOYMENTS, "pipeline=main"])
def test_cfn_lint_finds_no_error(synthesize: Synthesize, deployment: str) -> None:
    templates = [str(path) for path in synthesize(deployment).folder.glob("*.template.json")]
    # W3005: the CDK states dependencies that a reference implies already. W6001: an output that a person
    # pastes holds the bucket of another stack. E3703: the style of Fn::Join, where the CDK names an action's role.
    done = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--ignore-checks", "W3005", "W6001", "E3703", "--", *templates],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def statements(assembly: Assembly, role: str) -> dict[str, list[str]]:
    """Actions of a role (`Stack/start of its logical id`) and the resources they are for, as one readable table."""
    found: dict[str, list[str]] = {}
    stack, _, logical_id = role.partition("/")
    documents: list[dict[str, Any]] = []
    for name, resource in assembly.resources("AWS::IAM::Role").items():
        if name.startswith(role):
            documents += [p["PolicyDocument"] for p in resource["Properties"].get("Policies", [])]
    for name, resource in assembly.resources("AWS::IAM::Policy").items():
        roles = [reference.get("Ref", "") for reference in resource["Properties"]["Roles"]]
        if name.startswith(f"{stack}/") and any(reference.startswith(logical_id) for reference in roles):
            documents.append(resource["Properties"]["PolicyDocument"])
    assert documents, f"no role is named {role}"
    for document in documents:
        for statement in document["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for action in actions:
                found.setdefault(action, []).extend(json.dumps(r) if isinstance(r, dict) else r for r in resources)
    return found


SERVING = {
    "s3:GetObject",
    "kms:Decrypt",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:GetAuthorizationToken",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "cloudwatch:PutMetricData",
    "cloudwatch:DescribeAlarms",
}
"""What an execution role may do, whatever it serves."""


@pytest.mark.parametrize(
    ("deployment", "role", "more"),
    [
        ("dev", "Dev-Encoder/DemoRole", set()),
        ("prod", "Prod-Encoder/QaRole", {"s3:PutObject", "kms:GenerateDataKey"}),
        ("dev", "Dev-Tabular/Role", {"s3:ListBucket"}),
        ("published", "Published-Tabular/Role", {"s3:ListBucket"}),
    ],
)
def test_an_execution_role_may_do_only_this(synthesize: Synthesize, deployment: str, role: str, more: set[str]) -> None:
    granted = statements(synthesize(deployment), role)
    assert set(granted) == SERVING | more
    # These two have no resource-level permission in IAM.
    assert {action for action, resources in granted.items() if "*" in resources} == {
        "ecr:GetAuthorizationToken",
        "cloudwatch:PutMetricData",
    }


def test_an_execution_role_names_its_workloads_archives_and_its_own_log_groups_and_alarms(
    synthesize: Synthesize,
) -> None:
    demo = statements(synthesize("dev"), "Dev-Encoder/DemoRole")
    assert ["/encoder/*" in archive for archive in demo["s3:GetObject"]] == [True]
    assert all("dev-encoder-demo" in arn for arn in demo["logs:PutLogEvents"] + demo["cloudwatch:DescribeAlarms"])
    churn = statements(synthesize("dev"), "Dev-Tabular/Role")
    assert ["/tabular/*" in archive for archive in churn["s3:GetObject"]] == [True]
    assert all("dev-tabular-" in arn for arn in churn["logs:PutLogEvents"] + churn["cloudwatch:DescribeAlarms"])


def test_a_build_may_read_the_foreign_objects_of_its_recipe_and_write_its_own_prefix(synthesize: Synthesize) -> None:
    build = statements(synthesize("prod"), "Prod-ModelBuild/TabularBuildRole")
    read = [resource for resource in build["s3:GetObject"] if "tabular/synthetic/churn.txt" in resource]
    assert len(read) == 2
    assert all("sagemaker-sample-files/" in resource for resource in read)
    written = {resource.rpartition(', "/')[2].removesuffix('"]]}') for resource in build["s3:PutObject"]}
    assert written == {"tabular/*", "cache/tabular", "cache/tabular/*"}
    offline = statements(synthesize("dev"), "Dev-ModelBuild/TabularBuildRole")
    assert not any("sagemaker-sample-files" in resource for resource in offline["s3:GetObject"])


def test_every_model_of_a_multi_model_endpoint_is_under_one_prefix_and_one_model_serves_both_sizes(
    synthesize: Synthesize,
) -> None:
    assembly = synthesize("dev")
    (model,) = (m for name, m in assembly.resources("AWS::SageMaker::Model").items() if "Tabular" in name)
    container = model["Properties"]["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert json.dumps(container["ModelDataUrl"]).endswith('/models/"]]}')
    configs = [c for name, c in assembly.resources("AWS::SageMaker::EndpointConfig").items() if "Tabular" in name]
    variants = [variant for config in configs for variant in config["Properties"]["ProductionVariants"]]
    assert [variant["InstanceType"] for variant in variants] == ["ml.c5.xlarge", "ml.c5.2xlarge"]
    assert len({json.dumps(variant["ModelName"]) for variant in variants}) == 1


def published_scaling(assembly: Assembly, stack: str, kind: str) -> list[dict[str, Any]]:
    found = assembly.resources(f"AWS::ApplicationAutoScaling::{kind}").items()
    return [resource for name, resource in found if name.startswith(f"Published-{stack}/")]


def test_the_published_unet_comparison_has_its_knobs_its_image_and_its_scaling(synthesize: Synthesize) -> None:
    assembly = synthesize("published")
    containers = {
        name.partition("/")[2]: model["Properties"]["PrimaryContainer"]
        for name, model in assembly.resources("AWS::SageMaker::Model").items()
        if "SavedModel" in name
    }
    images = {name: json.dumps(container["Image"]) for name, container in containers.items()}
    assert "/tensorflow-inference:2.19.0-gpu" in images["TensorflowModel"], "g4dn has a GPU"
    assert "/sagemaker-inference-tensorflow:2.9.2-gpu-py3" in images["NeoModel"]
    assert containers["TensorflowModel"]["Environment"]["SAGEMAKER_TFS_INSTANCE_COUNT"] == "8"
    targets = published_scaling(assembly, "SavedModel", "ScalableTarget")
    assert [(t["Properties"]["MinCapacity"], t["Properties"]["MaxCapacity"]) for t in targets] == [(1, 4)] * 3
    for policy in published_scaling(assembly, "SavedModel", "ScalingPolicy"):
        tracking = policy["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        assert (tracking["TargetValue"], tracking["ScaleInCooldown"], tracking["ScaleOutCooldown"]) == (10, 500, 30)


def test_the_published_churn_comparison_runs_the_builtin_image_under_the_published_scaling(
    synthesize: Synthesize,
) -> None:
    assembly = synthesize("published")
    (model,) = (m for name, m in assembly.resources("AWS::SageMaker::Model").items() if "Tabular" in name)
    assert "/sagemaker-xgboost:3.0-5" in json.dumps(model["Properties"]["PrimaryContainer"]["Image"])
    targets = published_scaling(assembly, "Tabular", "ScalableTarget")
    assert [(t["Properties"]["MinCapacity"], t["Properties"]["MaxCapacity"]) for t in targets] == [(2, 5), (2, 5)]
    for policy in published_scaling(assembly, "Tabular", "ScalingPolicy"):
        tracking = policy["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        assert tracking == {
            "TargetValue": 4000,
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 300,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        }


def test_steps_and_schedules_stand_beside_target_tracking(synthesize: Synthesize, tmp_path: Path) -> None:
    text = by_kind.file("dev").read_text()
    scaled = tmp_path / "scaled.yaml"
    scaled.write_text(
        text.replace(
            "small: {instance_type: ml.c5.xlarge}",
            """small:
        instance_type: ml.c5.xlarge
        scaling:
          target_invocations_per_instance: 100
          step:
            threshold_invocations_per_instance: 200
            steps: [{over: 0, change: 1}, {over: 100, change: 2}]
          schedules:
            morning: {schedule: "cron(0 7 * * ? *)", timezone: Europe/Paris, min_capacity: 2, max_capacity: 4}""",
        )
    )
    assembly = synthesize(str(scaled))

    def churn(kind: str) -> dict[str, dict[str, Any]]:
        return {name: r for name, r in assembly.resources(kind).items() if name.startswith("Dev-Tabular/")}

    (target,) = churn("AWS::ApplicationAutoScaling::ScalableTarget").values()
    (action,) = target["Properties"]["ScheduledActions"]
    assert (action["Schedule"], action["Timezone"]) == ("cron(0 7 * * ? *)", "Europe/Paris")
    assert action["ScalableTargetAction"] == {"MinCapacity": 2, "MaxCapacity": 4}
    policies = {
        policy["Properties"]["PolicyType"]: name
        for name, policy in churn("AWS::ApplicationAutoScaling::ScalingPolicy").items()
    }
    assert set(policies) == {"TargetTrackingScaling", "StepScaling"}
    steps = churn("AWS::ApplicationAutoScaling::ScalingPolicy")[policies["StepScaling"]]
    assert steps["Properties"]["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 100, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 100, "ScalingAdjustment": 2},
    ]
    (alarm,) = (
        alarm
        for alarm in assembly.resources("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["AlarmName"].endswith("-steps")
    )
    assert alarm["Properties"]["AlarmActions"] == [{"Ref": policies["StepScaling"].partition("/")[2]}]


UNET = """
environment: unet
workloads:
  saved_model:
    kind: saved_model
    recipe: {preset: demo}
    endpoints:
      tuned:
        server: tensorflow_serving
        tensorflow_serving:
          {gunicorn_workers: 64, inter_op_parallelism: 1, intra_op_parallelism: 1, instance_count: 8}
        scaling:
          target_invocations_per_instance: 10
          max_capacity: 4
          scale_in_cooldown_seconds: 500
          scale_out_cooldown_seconds: 30
      int8: {server: openvino, precision: int8}
"""
"""The published settings of the container and of scaling, beside INT8."""


def without_hashes(environment: dict[str, Any]) -> dict[str, Any]:
    """A container's environment, less what its artifact is held to."""
    return {name: value for name, value in environment.items() if not name.endswith("_SHA256")}


def test_unet_serves_one_build_by_the_container_of_aws_and_by_our_own(synthesize: Synthesize, tmp_path: Path) -> None:
    path = tmp_path / "unet.yaml"
    path.write_text(UNET)
    assembly = synthesize(str(path))
    assert len(assembly.resources("Custom::BuiltArtifact")) == 1
    models = {
        name.partition("/")[2]: model["Properties"]["PrimaryContainer"]
        for name, model in assembly.resources("AWS::SageMaker::Model").items()
    }
    assert set(models) == {"TunedModel", "Int8Model"}
    assert "/tensorflow-inference:2.19.0-cpu" in json.dumps(models["TunedModel"]["Image"])
    assert without_hashes(models["TunedModel"]["Environment"]) == {
        "SAGEMAKER_GUNICORN_WORKERS": "64",
        "SAGEMAKER_TFS_INTER_OP_PARALLELISM": "1",
        "SAGEMAKER_TFS_INTRA_OP_PARALLELISM": "1",
        "SAGEMAKER_TFS_INSTANCE_COUNT": "8",
        "SAGEMAKER_SAFE_PORT_RANGE": "9000-9016",
    }
    assert json.dumps(models["TunedModel"]["ModelDataUrl"]).endswith('/tensorflow/model.tar.gz"]]}')
    assert json.dumps(models["Int8Model"]["ModelDataUrl"]).endswith('/openvino_int8/model.tar.gz"]]}')
    (target,) = assembly.resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert (target["Properties"]["MinCapacity"], target["Properties"]["MaxCapacity"]) == (1, 4)
    (policy,) = assembly.resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    tracking = policy["Properties"]["TargetTrackingScalingPolicyConfiguration"]
    assert (tracking["TargetValue"], tracking["ScaleInCooldown"], tracking["ScaleOutCooldown"]) == (10, 500, 30)
    role = statements(assembly, "Unet-SavedModel/TunedRole")
    assert all("repository/tensorflow-inference" in arn for arn in role["ecr:BatchGetImage"])


def test_the_role_of_what_can_be_tuned_may_log_for_the_endpoint_beside_it(synthesize: Synthesize) -> None:
    assembly = synthesize("dev")
    logging = {
        key: json.dumps(statements(assembly, f"Dev-SavedModel/{key}Role")["logs:PutLogEvents"])
        for key in ("Tuned", "Int8", "Scaled")
    }
    assert "Endpoints/dev-saved-model-tuned-tune:" in logging["Tuned"]
    assert "-tune" not in logging["Int8"] + logging["Scaled"]


def test_a_knob_without_effect_is_a_warning_at_synth(synthesize: Synthesize, tmp_path: Path) -> None:
    path = tmp_path / "unet.yaml"
    path.write_text(UNET)
    written = [file.read_text() for file in synthesize(str(path)).folder.glob("*.json")]
    (metadata,) = (text for text in written if "aws:cdk:warning" in text)
    assert metadata.count("aws:cdk:warning") == 1
    assert "gunicorn_workers is 64: the Python service" in metadata


def test_each_engine_has_an_image_of_its_own(synthesize: Synthesize, tmp_path: Path) -> None:
    text = by_kind.file("dev").read_text()
    both = tmp_path / "both.yaml"
    both.write_text(text.replace("{kind: random, seed: 0}}", "{kind: random, seed: 0}, engine: onnxruntime}"))
    images = {
        name: json.dumps(model["Properties"]["PrimaryContainer"]["Image"])
        for name, model in synthesize(str(both)).resources("AWS::SageMaker::Model").items()
        if name.startswith("Dev-Encoder/")
    }
    assert len(images) == 4
    assert len(set(images.values())) == 2
    assert len({image for name, image in images.items() if "/Demo" in name}) == 1


def test_the_builder_functions_may_do_only_this(synthesize: Synthesize) -> None:
    assembly = synthesize("dev")
    logging = {"logs:CreateLogStream", "logs:PutLogEvents"}
    listing = logging | {"s3:ListBucket", "s3:ListBucketVersions", "kms:Decrypt", "s3:GetObject"}
    assert set(statements(assembly, "Dev-ModelBuild/ArtifactBuilderOnEventRole")) == listing | {
        "codebuild:StartBuild",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
    }
    assert set(statements(assembly, "Dev-ModelBuild/ArtifactBuilderIsCompleteRole")) == listing | {
        "codebuild:BatchGetBuilds"
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_only_endpoints_are_named_so_that_every_change_can_replace_the_rest(
    synthesize: Synthesize, deployment: str
) -> None:
    assembly = synthesize(deployment)
    for kind, name in (("Model", "ModelName"), ("EndpointConfig", "EndpointConfigName")):
        assert all(name not in r["Properties"] for r in assembly.resources(f"AWS::SageMaker::{kind}").values())
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        assert endpoint["Properties"]["EndpointName"].startswith(
            tuple(f"{deployment}-{name}-" for name in ("encoder", "tabular", "saved-model", "neuron-encoder"))
        )


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_endpoint_is_isolated_encrypted_and_rolls_back_on_alarms(synthesize: Synthesize, deployment: str) -> None:
    assembly = synthesize(deployment)
    for model in assembly.resources("AWS::SageMaker::Model").values():
        assert model["Properties"]["EnableNetworkIsolation"] is True
    for config in assembly.resources("AWS::SageMaker::EndpointConfig").values():
        types = {variant["InstanceType"] for variant in config["Properties"]["ProductionVariants"]}
        # Where the storage is local NVMe, its hardware encrypts it.
        assert ("KmsKeyId" in config["Properties"]) != any(kind.startswith("ml.g4dn.") for kind in types)
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        alarms = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        assert 1 <= len(alarms) <= 10


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_buckets_are_private_encrypted_and_tls_only(synthesize: Synthesize, deployment: str) -> None:
    assembly = synthesize(deployment)
    buckets = assembly.resources("AWS::S3::Bucket")
    assert len(buckets) == 2
    for bucket in buckets.values():
        assert bucket["Properties"]["BucketEncryption"]
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    policies = json.dumps(list(assembly.resources("AWS::S3::BucketPolicy").values()))
    assert policies.count('"aws:SecureTransport": "false"') == 2
    keys = assembly.resources("AWS::KMS::Key").values()
    assert all(key["Properties"]["EnableKeyRotation"] for key in keys)


def test_destroy_removes_dev_and_keeps_the_data_of_prod(synthesize: Synthesize) -> None:
    for deployment, policy in (("dev", "Delete"), ("prod", "Retain")):
        buckets = synthesize(deployment).resources("AWS::S3::Bucket").values()
        assert {bucket["DeletionPolicy"] for bucket in buckets} == {policy}
    for deployment, kept in (("dev", "Delete"), ("prod", "RetainExceptOnCreate")):
        built = synthesize(deployment).resources("Custom::BuiltArtifact").values()
        assert {each["DeletionPolicy"] for each in built} == {kept}, "its deletion would empty what the bucket keeps"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_function_and_endpoint_logs_into_a_group_that_ends_with_its_stack(
    synthesize: Synthesize, deployment: str
) -> None:
    assembly = synthesize(deployment)
    groups = assembly.resources("AWS::Logs::LogGroup")
    assert {group["DeletionPolicy"] for group in groups.values()} == {"Delete"}
    assert all(group["Properties"]["RetentionInDays"] == 30 for group in groups.values())
    for name, function in assembly.resources("AWS::Lambda::Function").items():
        stack = name.partition("/")[0]
        assert f"{stack}/{function['Properties']['LoggingConfig']['LogGroup']['Ref']}" in groups, name
    named = {group["Properties"].get("LogGroupName") for group in groups.values()}
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        assert f"/aws/sagemaker/Endpoints/{endpoint['Properties']['EndpointName']}" in named


def test_prod_scales_captures_and_has_a_budget(synthesize: Synthesize) -> None:
    prod = synthesize("prod")
    targets = {
        target["Properties"]["ResourceId"]: target
        for target in prod.resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    }
    qa = targets["endpoint/prod-encoder-qa/variant/INT8"]
    assert (qa["Properties"]["MinCapacity"], qa["Properties"]["MaxCapacity"]) == (2, 10)
    assert all(target["DependsOn"] for target in targets.values()), "a scalable target must wait for its endpoint"
    captures = [
        config["Properties"]["DataCaptureConfig"]["KmsKeyId"]
        for config in prod.resources("AWS::SageMaker::EndpointConfig").values()
        if "DataCaptureConfig" in config["Properties"]
    ]
    assert len(captures) == 1
    policies = json.dumps(list(prod.resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()))
    assert "SageMakerVariantConcurrentRequestsPerModelHighResolution" in policies
    assert len(prod.resources("AWS::Budgets::Budget")) == 1


def test_a_change_of_recipe_changes_the_artifact_and_nothing_else_does(synthesize: Synthesize, tmp_path: Path) -> None:
    def prefixes(assembly: Assembly) -> dict[str, str]:
        resources = assembly.resources("Custom::BuiltArtifact").values()
        return {r["Properties"]["Prefix"].rpartition("/")[0]: r["Properties"]["Prefix"] for r in resources}

    text = by_kind.file("dev").read_text()
    tagged, changed = tmp_path / "tagged.yaml", tmp_path / "changed.yaml"
    tagged.write_text(text.replace("project: sagemaker", "team: ml, project: sagemaker"))
    changed.write_text(text.replace("max_seq_length: 320", "max_seq_length: 256"))
    before = prefixes(synthesize("dev"))
    assert prefixes(synthesize(str(tagged))) == before
    after = prefixes(synthesize(str(changed)))
    assert [name for name in before if after[name] != before[name]] == ["encoder/minilm_demo"]


def test_a_wrong_deployment_is_a_clean_error_and_no_traceback(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("environment: dev\nworkload: {}\n")
    done = run_app(tmp_path / "out", str(wrong))
    assert done.returncode == 1
    assert "unknown key 'workload'; did you mean 'workloads'?" in done.stderr
    assert "Traceback" not in done.stderr
