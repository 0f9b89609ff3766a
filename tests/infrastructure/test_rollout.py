"""What the templates say of how an update goes out, for each kind of traffic."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
DEPLOYMENT = """
environment: ways
workloads:
  encoder:
    kind: encoder
    models: {demo: {source: {kind: demo}}}
    endpoints:
      shadowed:
        model: demo
        variants:
          FP32: {precision: fp32, instance_count: 2}
          INT8: {precision: int8, shadow: true, weight: 0.25}
        scaling: {min_capacity: 2, max_capacity: 4, target_invocations_per_instance: 100}
        guardrails: {traffic: canary, step: 1}
  tabular:
    kind: tabular
    endpoints:
      whole: {instance_count: 1}
      canary: {instance_count: 4, guardrails: {traffic: canary, step: 1, bake_seconds: 300, keep_seconds: 60}}
      linear: {instance_count: 4, guardrails: {traffic: linear, timeout_seconds: 3600}}
      rolling: {instance_count: 4, guardrails: {traffic: rolling, step: 25%}}
  saved_model:
    kind: saved_model
    endpoints:
      copies:
        server: openvino
        precision: fp32
        inference_component: {cpu_cores: 1, memory_mib: 1024, copies: 4}
        guardrails: {traffic: rolling, step: 1}
"""


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    path = tmp_path_factory.mktemp("deployment") / "ways.yaml"
    path.write_text(DEPLOYMENT)
    return synthesize(str(path))


def endpoint(assembly: Assembly, name: str) -> dict[str, Any]:
    (found,) = (
        resource["Properties"]
        for resource in assembly.resources("AWS::SageMaker::Endpoint").values()
        if resource["Properties"]["EndpointName"].endswith(f"-{name}")
    )
    return dict(found)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        (
            "whole",
            {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 120},
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 3600,
            },
        ),
        (
            "canary",
            {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "WaitIntervalInSeconds": 300,
                    "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                },
                "TerminationWaitInSeconds": 60,
                "MaximumExecutionTimeoutInSeconds": 3600,
            },
        ),
        (
            "linear",
            {
                "TrafficRoutingConfiguration": {
                    "Type": "LINEAR",
                    "WaitIntervalInSeconds": 120,
                    "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 3600,
            },
        ),
    ],
)
def test_a_blue_green_update_moves_the_requests_as_set(assembly: Assembly, name: str, policy: dict[str, Any]) -> None:
    config = endpoint(assembly, name)["DeploymentConfig"]
    assert config["BlueGreenUpdatePolicy"] == policy
    assert "RollingUpdatePolicy" not in config


def test_a_rolling_update_replaces_batch_by_batch(assembly: Assembly) -> None:
    config = endpoint(assembly, "rolling")["DeploymentConfig"]
    assert "BlueGreenUpdatePolicy" not in config
    assert config["RollingUpdatePolicy"] == {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 120,
        "MaximumExecutionTimeoutInSeconds": 6480,
    }


@pytest.mark.parametrize("name", ["whole", "canary", "linear", "rolling"])
def test_every_way_watches_every_alarm(assembly: Assembly, name: str) -> None:
    properties = endpoint(assembly, name)
    watched = [
        alarm["AlarmName"]["Ref"] for alarm in properties["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    ]
    alarms = {
        key.partition("/")[2]: resource["Properties"]["AlarmName"]
        for key, resource in assembly.resources("AWS::CloudWatch::Alarm").items()
    }
    kinds = {alarms[each].removeprefix(properties["EndpointName"]) for each in watched}
    assert kinds == {f"-AllTraffic-{kind}" for kind in ("latency", "server-errors", "loading-wait")}


def test_an_update_keeps_the_number_of_instances_of_scaled_endpoints_and_nothing_else(assembly: Assembly) -> None:
    scaled = endpoint(assembly, "shadowed")
    assert scaled["RetainAllVariantProperties"] is True
    excluded = [each["VariantPropertyType"] for each in scaled["ExcludeRetainedVariantProperties"]]
    assert excluded == ["DesiredWeight", "DataCaptureConfig"]
    assert "RetainAllVariantProperties" not in endpoint(assembly, "whole")


def test_a_shadow_gets_a_share_of_the_requests_and_takes_nothing_back(assembly: Assembly) -> None:
    (config,) = (
        resource["Properties"]
        for resource in assembly.resources("AWS::SageMaker::EndpointConfig").values()
        if "ShadowProductionVariants" in resource["Properties"]
    )
    (production,), (shadow,) = config["ProductionVariants"], config["ShadowProductionVariants"]
    assert (production["VariantName"], production["InitialVariantWeight"]) == ("FP32", 1)
    assert (shadow["VariantName"], shadow["InitialVariantWeight"]) == ("INT8", 0.25)
    watched = endpoint(assembly, "shadowed")["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert len(watched) == 2
    assert all("FP32" in alarm["AlarmName"]["Ref"] for alarm in watched)
    targets = assembly.resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert [t["Properties"]["ResourceId"].rpartition("/")[2] for t in targets] == ["FP32"]


def test_copies_of_an_inference_component_go_out_in_batches_of_the_size_set(assembly: Assembly) -> None:
    (component,) = assembly.resources("AWS::SageMaker::InferenceComponent").values()
    policy = component["Properties"]["DeploymentConfig"]["RollingUpdatePolicy"]
    assert policy["MaximumBatchSize"] == {"Type": "COPY_COUNT", "Value": 1}


def test_production_begins_with_a_canary_of_one_instance_that_bakes_ten_minutes(synthesize: Synthesize) -> None:
    endpoints = synthesize("prod").resources("AWS::SageMaker::Endpoint")
    assert len(endpoints) == 2
    for resource in endpoints.values():
        routing = resource["Properties"]["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
        assert routing == {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 600,
            "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
        }


def test_every_endpoint_is_checked_after_its_update(assembly: Assembly) -> None:
    checks = assembly.resources("Custom::ServedConfiguration")
    endpoints = assembly.resources("AWS::SageMaker::Endpoint")
    checked = {resource["Properties"]["EndpointName"]: (name, resource) for name, resource in checks.items()}
    assert set(checked) == {each["Properties"]["EndpointName"] for each in endpoints.values()}
    for logical, endpoint in endpoints.items():
        _, check = checked[endpoint["Properties"]["EndpointName"]]
        assert logical.partition("/")[2] in check["DependsOn"]
        assert check["Properties"]["EndpointConfigName"] == endpoint["Properties"]["EndpointConfigName"]
