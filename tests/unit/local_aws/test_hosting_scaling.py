"""Application Auto Scaling through its API: what identifies a target and a policy, and what requests may ask for."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.local_aws.hosting_account import DEADLINE_SECONDS, HostingAccount, error_of, running, variant

VARIANT = "sagemaker:variant:DesiredInstanceCount"
COMPONENT = "sagemaker:inference-component:DesiredCopyCount"
TRACKING = {
    "TargetValue": 60.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    "ScaleInCooldown": 500,
    "ScaleOutCooldown": 100,
}


@pytest.fixture
def account(tmp_path: Path) -> Iterator[HostingAccount]:
    with running(tmp_path) as served:
        yield served


def target(endpoint: str = "e", **more: Any) -> dict[str, Any]:
    resource = f"endpoint/{endpoint}/variant/v"
    return {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": VARIANT, **more}


def register(account: HostingAccount, endpoint: str = "e", minimum: int = 1, maximum: int = 4, **more: Any) -> str:
    bounds = {"MinCapacity": minimum, "MaxCapacity": maximum}
    registered = account.scaling.register_scalable_target(**target(endpoint, **bounds, **more))
    return str(registered["ScalableTargetARN"])


def put(account: HostingAccount, endpoint: str = "e", name: str = "p", **settings: Any) -> dict[str, Any]:
    given = {"PolicyName": name, "PolicyType": "TargetTrackingScaling"}
    tracking = {"TargetTrackingScalingPolicyConfiguration": {**TRACKING, **settings}}
    stored: dict[str, Any] = account.scaling.put_scaling_policy(**target(endpoint), **given, **tracking)
    return stored


def policies(account: HostingAccount, **request: Any) -> list[dict[str, Any]]:
    given = {"ServiceNamespace": "sagemaker", **request}
    rows: list[dict[str, Any]] = account.scaling.describe_scaling_policies(**given)["ScalingPolicies"]
    return rows


def targets(account: HostingAccount, **request: Any) -> list[dict[str, Any]]:
    given = {"ServiceNamespace": "sagemaker", **request}
    rows: list[dict[str, Any]] = account.scaling.describe_scalable_targets(**given)["ScalableTargets"]
    return rows


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def count(account: HostingAccount) -> int:
    return int(account.settled()["ProductionVariants"][0]["DesiredInstanceCount"])


def test_a_policy_belongs_to_its_resource_whatever_its_name(account: HostingAccount) -> None:
    for endpoint in ("a", "b"):
        register(account, endpoint)
    one, other = put(account, "a", TargetValue=10.0), put(account, "b", TargetValue=20.0)
    assert one["PolicyARN"] != other["PolicyARN"]
    assert [each["ResourceId"] for each in policies(account)] == ["endpoint/a/variant/v", "endpoint/b/variant/v"]
    account.scaling.delete_scaling_policy(**target("a"), PolicyName="p")
    (left,) = policies(account)
    assert left["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 20.0
    code, message = error_of(lambda: account.scaling.delete_scaling_policy(**target("a"), PolicyName="p"))
    assert (code, "resource ID: endpoint/a/variant/v" in message) == ("ObjectNotFoundException", True)


def test_a_template_deletes_a_policy_by_its_name_where_that_is_enough(account: HostingAccount) -> None:
    def delete() -> tuple[int, dict[str, Any]]:
        headers = {"x-amz-target": "AnyScaleFrontendService.DeleteScalingPolicy", "content-type": "application/json"}
        response = account.send("/", json.dumps({"PolicyName": "p"}).encode(), **headers)
        return response.status_code, response.json()

    for endpoint in ("a", "b"):
        register(account, endpoint)
        put(account, endpoint)
    status, content = delete()
    assert (status, "ResourceId is missing" in content["message"]) == (400, True)
    account.scaling.delete_scaling_policy(**target("b"), PolicyName="p")
    assert delete() == (200, {})
    assert policies(account) == []


def test_a_policy_keeps_its_arn_and_its_creation_time_when_it_is_put_again(account: HostingAccount) -> None:
    register(account)
    arn = put(account)["PolicyARN"]
    (created,) = policies(account)
    put(account, TargetValue=5.0)
    (changed,) = policies(account)
    assert changed["PolicyARN"] == arn == created["PolicyARN"]
    assert arn.startswith("arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:")
    assert arn.endswith(":resource/sagemaker/endpoint/e/variant/v:policyName/p")
    assert changed["CreationTime"] == created["CreationTime"]


def test_numbers_have_the_types_of_the_service_model(account: HostingAccount) -> None:
    register(account)
    put(account)
    # Templates have every number as text, and their handlers send all of them as floats.
    body = {
        **target(PolicyName="steps", PolicyType="StepScaling"),
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 60.0,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1.0}],
        },
    }
    headers = {"x-amz-target": "AnyScaleFrontendService.PutScalingPolicy", "content-type": "application/json"}
    assert account.send("/", json.dumps(body).encode(), **headers).status_code == 200
    headers = {"x-amz-target": "AnyScaleFrontendService.DescribeScalingPolicies", "content-type": "application/json"}
    text = account.send("/", b'{"ServiceNamespace": "sagemaker"}', **headers).text
    for whole in ('"ScaleInCooldown":500', '"ScaleOutCooldown":100', '"Cooldown":60', '"ScalingAdjustment":1'):
        assert f"{whole}," in text or f"{whole}}}" in text


def test_a_target_is_described_with_everything_that_aws_reports(account: HostingAccount) -> None:
    arn = register(account)
    (described,) = targets(account)
    assert described["ScalableTargetARN"] == arn
    assert arn.startswith("arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/")
    assert described["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert described["CreationTime"]
    assert set(described["SuspendedState"].values()) == {False}


def test_registering_again_changes_only_what_it_names(account: HostingAccount) -> None:
    register(account, SuspendedState={"DynamicScalingInSuspended": True})
    account.scaling.register_scalable_target(
        **target(MaxCapacity=8, SuspendedState={"ScheduledScalingSuspended": True})
    )
    (described,) = targets(account)
    assert (described["MinCapacity"], described["MaxCapacity"]) == (1, 8)
    assert described["SuspendedState"] == {
        "DynamicScalingInSuspended": True, "DynamicScalingOutSuspended": False, "ScheduledScalingSuspended": True,
    }  # fmt: skip


@pytest.mark.parametrize(("registered", "counts"), [((2, 4), (1, 2)), ((1, 1), (2, 1))])
def test_registering_brings_what_runs_within_the_bounds(
    account: HostingAccount, registered: tuple[int, int], counts: tuple[int, int]
) -> None:
    before, after = counts
    account.deploy(count=before)
    register(account, "e", *registered)
    until(lambda: count(account) == after)
    (activity,) = account.scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"]
    side = "minimum" if after > before else "maximum"
    assert activity["Cause"] == f"{side} capacity was set to {after}"
    account.sagemaker.delete_endpoint(EndpointName="e")


def test_deleting_an_endpoint_deregisters_its_targets(account: HostingAccount) -> None:
    account.deploy()
    register(account)
    register(account, "other")
    put(account)
    account.delete()
    assert [each["ResourceId"] for each in targets(account)] == ["endpoint/other/variant/v"]
    assert policies(account) == []


def test_descriptions_keep_to_the_namespace_the_dimension_and_the_names(account: HostingAccount) -> None:
    register(account)
    put(account)
    schedule(account)
    assert targets(account, ServiceNamespace="ecs") == []
    assert targets(account, ScalableDimension=COMPONENT) == []
    assert len(targets(account, ScalableDimension=VARIANT, ResourceIds=[target()["ResourceId"]])) == 1
    assert policies(account, ServiceNamespace="ecs") == []
    assert policies(account, PolicyNames=["q"]) == []
    assert len(policies(account, PolicyNames=["p"])) == 1
    describe = account.scaling.describe_scheduled_actions
    assert describe(ServiceNamespace="sagemaker", ScheduledActionNames=["t"])["ScheduledActions"] == []
    assert len(describe(ServiceNamespace="sagemaker", ScheduledActionNames=["s"])["ScheduledActions"]) == 1
    activities = account.scaling.describe_scaling_activities(ServiceNamespace="ecs")
    assert activities["ScalingActivities"] == []


def test_descriptions_come_in_pages(account: HostingAccount) -> None:
    for endpoint in ("a", "b", "c"):
        register(account, endpoint)
    describe = account.scaling.describe_scalable_targets
    page = describe(ServiceNamespace="sagemaker", MaxResults=2)
    assert len(page["ScalableTargets"]) == 2
    rest = describe(ServiceNamespace="sagemaker", NextToken=page["NextToken"])
    assert [each["ResourceId"] for each in rest["ScalableTargets"]] == ["endpoint/c/variant/v"]
    assert "NextToken" not in rest
    code, _ = error_of(lambda: describe(ServiceNamespace="sagemaker", NextToken="mine"))
    assert code == "InvalidNextTokenException"
    assert error_of(lambda: describe(ServiceNamespace="sagemaker", MaxResults=0))[0] == "ValidationException"


def test_policies_come_ten_at_a_time(account: HostingAccount) -> None:
    register(account)
    for number in range(11):
        put(account, name=f"p{number}")
    pages = list(account.scaling.get_paginator("describe_scaling_policies").paginate(ServiceNamespace="sagemaker"))
    assert [len(page["ScalingPolicies"]) for page in pages] == [10, 1]


def schedule(account: HostingAccount, **more: Any) -> dict[str, Any]:
    action = {"Schedule": "rate(5 minutes)", "ScalableTargetAction": {"MinCapacity": 2}, **more}
    account.scaling.put_scheduled_action(**target(ScheduledActionName="s"), **action)
    described = account.scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")
    (stored,) = described["ScheduledActions"]
    return dict(stored)


def test_a_scheduled_action_has_an_arn_and_a_creation_time_and_changes_in_part(account: HostingAccount) -> None:
    register(account)
    created = schedule(account, Timezone="Europe/Paris")
    assert created["ScheduledActionARN"].endswith(":resource/sagemaker/endpoint/e/variant/v:scheduledActionName/s")
    end = datetime.now(UTC) + timedelta(days=1)
    account.scaling.put_scheduled_action(**target(ScheduledActionName="s"), EndTime=end)
    (changed,) = account.scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
    assert {**changed, "EndTime": None} == {**created, "EndTime": None}


def test_targets_have_tags(account: HostingAccount) -> None:
    arn = register(account, Tags={"team": "a"})
    account.scaling.tag_resource(ResourceARN=arn, Tags={"stage": "b"})
    account.scaling.untag_resource(ResourceARN=arn, TagKeys=["team"])
    assert account.scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"stage": "b"}
    account.scaling.deregister_scalable_target(**target())
    code, _ = error_of(lambda: account.scaling.list_tags_for_resource(ResourceARN=arn))
    assert code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("operation", "changes", "code", "part"),
    [
        ("register_scalable_target", {"MinCapacity": 1}, "ValidationException", "MaxCapacity is missing"),
        ("register_scalable_target", {"ServiceNamespace": "moon"}, "ValidationException", "enum value set"),
        ("register_scalable_target", {"ResourceId": "table/t"}, "ValidationException", "'table/t'"),
        ("deregister_scalable_target", {"ScalableDimension": COMPONENT}, "ObjectNotFoundException", "No scal"),
        ("deregister_scalable_target", {"ServiceNamespace": "ecs"}, "ObjectNotFoundException", "namespace: ecs"),
        ("put_scheduled_action", {"ScheduledActionName": "s"}, "ValidationException", "Schedule is missing"),
        ("put_scaling_policy", {"PolicyName": "p", "PolicyType": "StepScaling"}, "ValidationException", "Adjustment"),
        ("put_scaling_policy", {"PolicyName": "p", "PolicyType": "PredictiveScaling"}, "ValidationException", "has"),
        (
            "put_scaling_policy",
            {
                "PolicyName": "p",
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": {
                    "TargetValue": 1.0,
                    "CustomizedMetricSpecification": {"MetricName": "m", "Namespace": "n", "Statistic": "Sum"},
                },
            },
            "ValidationException",
            "CustomizedMetricSpecification is not supported by the local account: use Predefined",
        ),
        (
            "describe_scaling_activities",
            {"IncludeNotScaledActivities": True},
            "ValidationException",
            "IncludeNotScaledActivities",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    account: HostingAccount, operation: str, changes: dict[str, Any], code: str, part: str
) -> None:
    if operation != "register_scalable_target":
        register(account)
    call = getattr(account.scaling, operation)
    raised, message = error_of(lambda: call(**target(**changes)))
    assert (raised, part in message) == (code, True), message


@pytest.mark.parametrize(
    "changed", [variant(ModelName="e", InstanceType="ml.c5.large"), variant(ModelName="e", VariantName="w")]
)
def test_an_update_may_not_remove_a_scaled_variant_or_change_its_instance_type(
    account: HostingAccount, changed: dict[str, Any]
) -> None:
    account.deploy()
    register(account)
    account.sagemaker.create_endpoint_config(EndpointConfigName="next", ProductionVariants=[changed])

    def update() -> None:
        account.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="next")

    code, message = error_of(update)
    assert code == "ValidationException"
    assert message.startswith('The variant(s) "v" must be deregistered as scalable targets')
    assert account.settled()["EndpointConfigName"] == "e"
    account.scaling.deregister_scalable_target(**target())
    update()
    assert account.settled()["EndpointConfigName"] == "next"


def test_an_update_may_change_the_model_of_a_scaled_variant(account: HostingAccount) -> None:
    account.deploy()
    register(account)
    account.sagemaker.create_endpoint_config(EndpointConfigName="next", ProductionVariants=[variant(ModelName="e")])
    account.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="next")
    assert account.settled()["EndpointConfigName"] == "next"
