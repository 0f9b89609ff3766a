"""What the templates promise of endpoints of inference components, and of endpoints without guardrails."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
DEPLOYMENT = """
environment: zero
workloads:
  saved_model:
    kind: saved_model
    recipe: {preset: demo}
    endpoints:
      asleep:
        server: openvino
        precision: int8
        inference_component: {cpu_cores: 2, memory_mib: 2048, min_instances: 0, max_instances: 2}
        scaling:
          min_capacity: 0
          max_capacity: 6
          target_concurrent_requests_per_copy: 2
          step: {threshold_invocations_per_copy: 200, steps: [{over: 0, change: 2}]}
          schedules:
            night: {schedule: "cron(0 20 * * ? *)", min_capacity: 0, max_capacity: 0}
      inferentia: {server: tensorflow_serving, instance_type: ml.inf1.xlarge, guardrails: off}
vpc: {subnet_ids: [subnet-0123456789abcdef0, subnet-0123456789abcdef1], security_group_ids: [sg-0123456789abcdef0]}
"""
SUBNETS = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
COMPONENT = "zero-saved-model-asleep"


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    path = tmp_path_factory.mktemp("deployment") / "zero.yaml"
    path.write_text(DEPLOYMENT)
    return synthesize(str(path))


def properties(assembly: Assembly, kind: str, start: str) -> dict[str, Any]:
    """Of the one resource of that kind whose logical id starts so."""
    (found,) = (r for name, r in assembly.resources(kind).items() if name.partition("/")[2].startswith(start))
    given: dict[str, Any] = found["Properties"]
    return given


def alarm(assembly: Assembly, ending: str) -> dict[str, Any]:
    alarms = (resource["Properties"] for resource in assembly.resources("AWS::CloudWatch::Alarm").values())
    found: dict[str, Any] = next(each for each in alarms if each["AlarmName"] == f"{COMPONENT}-AllTraffic-{ending}")
    return found


def test_cfn_lint_finds_no_error(assembly: Assembly) -> None:
    templates = [str(path) for path in assembly.folder.glob("*SavedModel.template.json")]
    # W3005: the CDK states dependencies that a reference implies already.
    done = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--ignore-checks", "W3005", "W6001", "--", *templates],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert len(templates) == 1
    assert done.returncode == 0, done.stdout


def test_the_configuration_has_no_model_but_what_the_model_says_elsewhere(assembly: Assembly) -> None:
    config = properties(assembly, "AWS::SageMaker::EndpointConfig", "Asleep")
    assert "AsleepRole" in json.dumps(config["ExecutionRoleArn"])
    assert config["EnableNetworkIsolation"] is True
    assert config["VpcConfig"] == {"Subnets": SUBNETS, "SecurityGroupIds": ["sg-0123456789abcdef0"]}
    assert config["KmsKeyId"]
    assert config["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "InstanceType": "ml.c6i.2xlarge",
            "InitialInstanceCount": 1,
            "InitialVariantWeight": 1,
            "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2},
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        }
    ]


def test_the_component_reserves_what_a_copy_needs_and_rolls_back_by_halves(assembly: Assembly) -> None:
    component = properties(assembly, "AWS::SageMaker::InferenceComponent", "Asleep")
    assert (component["InferenceComponentName"], component["VariantName"]) == (COMPONENT, "AllTraffic")
    assert component["Specification"]["ComputeResourceRequirements"] == {
        "NumberOfCpuCoresRequired": 2,
        "MinMemoryRequiredInMb": 2048,
    }
    assert component["RuntimeConfig"] == {"CopyCount": 1}
    guardrails = component["DeploymentConfig"]
    assert guardrails["RollingUpdatePolicy"] == {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 120,
        "MaximumExecutionTimeoutInSeconds": 3600,
    }
    assert len(guardrails["AutoRollbackConfiguration"]["Alarms"]) == 2
    assert "DeploymentConfig" not in properties(assembly, "AWS::SageMaker::Endpoint", "Asleep")


def test_scaling_counts_copies_and_none_is_few_enough(assembly: Assembly) -> None:
    target = properties(assembly, "AWS::ApplicationAutoScaling::ScalableTarget", "Asleep")
    assert target["ResourceId"] == f"inference-component/{COMPONENT}"
    assert target["ScalableDimension"] == "sagemaker:inference-component:DesiredCopyCount"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 6)
    (night,) = target["ScheduledActions"]
    assert night["ScalableTargetAction"] == {"MinCapacity": 0, "MaxCapacity": 0}
    tracking = properties(assembly, "AWS::ApplicationAutoScaling::ScalingPolicy", "AsleepAllTrafficPolicy")
    assert tracking["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    }


def test_a_request_that_finds_no_copy_raises_the_alarm_that_starts_the_first(assembly: Assembly) -> None:
    policy = properties(assembly, "AWS::ApplicationAutoScaling::ScalingPolicy", "AsleepAllTrafficFromZero")
    steps = policy["StepScalingPolicyConfiguration"]
    assert steps["StepAdjustments"] == [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]
    assert steps["Cooldown"] == 300
    wake = alarm(assembly, "from-zero")
    assert (wake["MetricName"], wake["Statistic"], wake["Threshold"]) == ("NoCapacityInvocationFailures", "Sum", 1)
    assert wake["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert wake["Dimensions"] == [{"Name": "InferenceComponentName", "Value": COMPONENT}]
    (action,) = wake["AlarmActions"]
    assert action["Ref"].startswith("AsleepAllTrafficFromZero")


@pytest.mark.parametrize(
    ("ending", "metric"),
    [("latency", "ModelLatency"), ("server-errors", "Invocation5XXErrors"), ("steps", "InvocationsPerCopy")],
)
def test_a_components_alarms_watch_the_components_metrics(assembly: Assembly, ending: str, metric: str) -> None:
    found = alarm(assembly, ending)
    assert found["MetricName"] == metric
    assert found["Dimensions"] == [{"Name": "InferenceComponentName", "Value": COMPONENT}]


def test_copies_log_into_a_group_that_ends_with_the_stack_and_that_the_role_may_write(assembly: Assembly) -> None:
    group = f"/aws/sagemaker/InferenceComponents/{COMPONENT}"
    logs = properties(assembly, "AWS::Logs::LogGroup", "AsleepComponentLogs")
    assert (logs["LogGroupName"], logs["RetentionInDays"]) == (group, 30)
    (role,) = (r for name, r in assembly.resources("AWS::IAM::Role").items() if "/AsleepRole" in name)
    assert group in json.dumps(role["Properties"]["Policies"])
    assert '"/aws/sagemaker/InferenceComponents"' in json.dumps(role["Properties"]["Policies"])


def test_without_guardrails_an_endpoint_has_no_deployment_configuration(assembly: Assembly) -> None:
    assert "DeploymentConfig" not in properties(assembly, "AWS::SageMaker::Endpoint", "Inferentia")
