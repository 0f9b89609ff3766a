"""What the templates promise of models that Neo compiles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly, run_app
from tests.infrastructure.test_templates import SERVING, statements

Synthesize = Callable[..., Assembly]
NEO = """
environment: neo
workloads:
  saved_model:
    kind: saved_model
    recipe: {preset: demo}
    endpoints:
      gpu:
        server: neo
        neo: {target_device: ml_g4dn}
        instance_type: ml.g4dn.16xlarge
        scaling: {target_invocations_per_instance: 10}
      cpu:
        server: neo
        neo: {target_device: ml_c5, compiler_options: {mcpu: skylake-avx512}}
        instance_type: ml.c5.xlarge
      plain: {server: tensorflow_serving}
    compiled_for_devices:
      pi: {target_device: rasp4b, framework_version: 1.15.3}
"""
TASKS = ("sagemaker:", "iam:PassRole", "kms:", "s3:")


def write(path: Path, *changes: tuple[str, str]) -> str:
    """Writes the deployment with some of its text changed."""
    text = NEO
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return synthesize(write(tmp_path_factory.mktemp("deployment") / "neo.yaml"))


def plain(value: Any) -> str:
    """A property with its intrinsic functions as words, in one text."""
    if isinstance(value, str):
        return value
    (kind, argument), *_ = value.items()
    if kind == "Fn::Join":
        return str(argument[0]).join(plain(part) for part in argument[1])
    if kind == "Fn::FindInMap":
        return f"<{argument[0]}>"
    return f"<{argument if isinstance(argument, str) else '.'.join(argument)}>"


def compiled(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """The compiled models' properties by the start of their logical id, with their JSON read."""
    found = {}
    for name, resource in assembly.resources("Custom::CompiledModel").items():
        properties = {key: plain(value) for key, value in resource["Properties"].items()}
        for key in ("Job", "Check"):
            if key in properties:
                properties[key] = json.loads(properties[key])
        found[name.partition("/")[2].partition("Compiled")[0]] = properties
    return found


def test_a_job_is_given_the_builds_model_its_shape_and_its_target(assembly: Assembly) -> None:
    models = compiled(assembly)
    assert set(models) == {"Gpu", "Cpu", "PiDevice"}
    gpu, job = models["Gpu"], models["Gpu"]["Job"]
    assert gpu["JobName"].startswith("neo-neo-")
    assert gpu["Prefix"] == f"saved_model/neo/{gpu['JobName'].removeprefix('neo-neo-')}"
    assert job["InputConfig"] == {
        "DataInputConfig": '{"image": [1, 224, 224, 3]}',
        "Framework": "TENSORFLOW",
        "FrameworkVersion": "2.9",
        "S3Uri": f"s3://{gpu['Bucket']}/{gpu['ModelKey']}",
    }
    assert gpu["ModelKey"].endswith("/tensorflow/model.tar.gz")
    assert job["OutputConfig"].pop("KmsKeyId").startswith("<Neo-Foundation:")
    assert job["OutputConfig"] == {
        "TargetDevice": "ml_g4dn",
        "S3OutputLocation": f"s3://{gpu['Bucket']}/{gpu['Prefix']}/",
    }
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}
    options = models["Cpu"]["Job"]["OutputConfig"]["CompilerOptions"]
    assert json.loads(options) == {"mcpu": "skylake-avx512"}
    assert models["PiDevice"]["Job"]["OutputConfig"]["TargetDevice"] == "rasp4b"
    assert models["PiDevice"]["Job"]["InputConfig"]["FrameworkVersion"] == "1.15"
    assert "Check" not in models["PiDevice"]


def test_an_endpoint_serves_what_was_compiled_in_the_image_and_on_the_instance_of_its_check(
    assembly: Assembly,
) -> None:
    models = compiled(assembly)
    containers = {
        name.partition("/")[2].removesuffix("Model"): model["Properties"]["PrimaryContainer"]
        for name, model in assembly.resources("AWS::SageMaker::Model").items()
    }
    images = {
        "Gpu": "sagemaker-inference-tensorflow:2.9.2-gpu-py3",
        "Cpu": "sagemaker-inference-tensorflow:2.9.2-cpu-py3",
    }
    for name, image in images.items():
        assert plain(containers[name]["Image"]).endswith(f"/{image}")
        assert models[name]["Check"]["Image"] == plain(containers[name]["Image"])
        assert "Compiled" in plain(containers[name]["ModelDataUrl"])
        assert plain(containers[name]["ModelDataUrl"]).endswith(".Key>")
        assert "Environment" not in containers[name]
        assert models[name]["Check"]["ReferenceKey"].endswith("/reference.json.gz")
    assert models["Gpu"]["Check"]["InstanceType"] == "ml.g4dn.16xlarge"
    assert "KmsKeyId" not in models["Gpu"]["Check"], "instances with local NVMe take no key"
    assert models["Cpu"]["Check"]["KmsKeyId"].startswith("<Neo-Foundation:")
    # Each check's endpoint has a log group that ends with the stack.
    groups = {group["Properties"].get("LogGroupName") for group in assembly.resources("AWS::Logs::LogGroup").values()}
    for name in images:
        assert f"/aws/sagemaker/Endpoints/{models[name]['Check']['Name']}" in groups


def test_the_roles_of_a_compilation_may_do_only_this(assembly: Assembly) -> None:
    gpu = compiled(assembly)["Gpu"]
    compiling = statements(assembly, "Neo-SavedModel/GpuCompiledCompilationRole")
    assert set(compiling) == {
        "s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:GetBucketLocation", "kms:Decrypt", "kms:GenerateDataKey",
        "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents",
        "cloudwatch:PutMetricData",
    }  # fmt: skip
    assert all("/tensorflow/model.tar.gz" in resource for resource in compiling["s3:GetObject"])
    assert all(f"/{gpu['Prefix']}/*" in resource for resource in compiling["s3:PutObject"])
    checking = statements(assembly, "Neo-SavedModel/GpuCompiledCheckRole")
    assert set(checking) == SERVING - {"cloudwatch:DescribeAlarms"}
    assert all(f"/{gpu['Prefix']}/*" in resource for resource in checking["s3:GetObject"])
    serving = statements(assembly, "Neo-SavedModel/GpuRole")
    assert set(serving) == SERVING
    assert all("repository/sagemaker-inference-tensorflow" in arn for arn in serving["ecr:BatchGetImage"])


def test_the_handler_reaches_its_own_jobs_and_checks_and_passes_their_roles_only(
    assembly: Assembly,
) -> None:
    starts = statements(assembly, "Neo-SavedModel/CompilerOnEventRole")
    waits = statements(assembly, "Neo-SavedModel/CompilerIsCompleteRole")
    assert {action for action in starts if action.startswith(TASKS)} == {
        "sagemaker:CreateCompilationJob", "sagemaker:DescribeCompilationJob", "sagemaker:StopCompilationJob",
        "sagemaker:DeleteCompilationJob", "s3:ListBucket", "iam:PassRole",
    }  # fmt: skip
    assert {action for action in waits if action.startswith(TASKS)} == {
        "sagemaker:DescribeCompilationJob", "sagemaker:DeleteCompilationJob", "sagemaker:CreateModel",
        "sagemaker:CreateEndpointConfig", "sagemaker:CreateEndpoint", "sagemaker:DeleteModel",
        "sagemaker:DeleteEndpointConfig", "sagemaker:DeleteEndpoint", "sagemaker:DescribeEndpoint",
        "sagemaker:InvokeEndpoint", "kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant",
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucket",
        "s3:ListBucketVersions", "iam:PassRole",
    }  # fmt: skip
    for granted in (starts, waits):
        for action, resources in granted.items():
            if action.startswith("sagemaker:"):
                assert all("/neo-neo-*" in resource for resource in resources), action
    assert all("/saved_model/neo/*" in resource for resource in waits["s3:PutObject"] + waits["s3:DeleteObjectVersion"])
    assert all("-check" in resource for resource in waits["sagemaker:InvokeEndpoint"])
    passes = {
        name.partition("/")[2].partition("Compiled")[0]: policy["Properties"]
        for name, policy in assembly.resources("AWS::IAM::Policy").items()
        if "PassRoles" in name
    }
    assert set(passes) == {"Gpu", "Cpu", "PiDevice"}
    for name, policy in passes.items():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Action"] == "iam:PassRole"
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        arns = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(plain(arn).startswith(f"<{name}Compiled") for arn in arns)
        assert len(policy["Roles"]) == 2
        resource = next(r for n, r in assembly.resources("Custom::CompiledModel").items() if f"/{name}Compiled" in n)
        assert any("PassRoles" in dependency for dependency in resource["DependsOn"])


def test_only_what_is_compiled_changes_where_it_goes(
    assembly: Assembly, synthesize: Synthesize, tmp_path: Path
) -> None:
    def prefixes(made: Assembly) -> dict[str, str]:
        return {name: properties["Prefix"] for name, properties in compiled(made).items()}

    before = prefixes(assembly)
    assert len(set(before.values())) == 3
    gpu, cpu = "neo: {target_device: ml_g4dn", "neo: {target_device: ml_c5"
    limits = (gpu, f"{gpu}, tolerance: {{mean_difference: 0.001}}, max_runtime_seconds: 900")
    size = ("ml.g4dn.16xlarge", "ml.g4dn.xlarge")
    version = (cpu, f"{cpu}, framework_version: 1.15.3")
    after = prefixes(synthesize(write(tmp_path / "changed.yaml", limits, size, version)))
    assert [name for name in before if after[name] != before[name]] == ["Cpu"]
    recipe = ("{preset: demo}", "{preset: demo, seed: 7}")
    assert not set(prefixes(synthesize(write(tmp_path / "recipe.yaml", recipe))).values()) & set(before.values())


def test_a_version_that_neo_does_not_compile_is_refused_at_synth(tmp_path: Path) -> None:
    wrong = write(tmp_path / "wrong.yaml", ("ml_g4dn}", "ml_g4dn, framework_version: '2.19'}"))
    done = run_app(tmp_path / "out", wrong)
    assert done.returncode == 1
    assert "framework_version is '2.19': Neo compiles TensorFlow 1.15.3 and 2.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_neo_there_is_no_compiler(synthesize: Synthesize) -> None:
    names = list(synthesize("prod").resources("AWS::Lambda::Function"))
    assert not [name for name in names if "Compiler" in name]
