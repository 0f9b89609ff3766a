"""Target tracking as Application Auto Scaling does it: points over the target, cooldowns, bounds."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_aws.hosting.errors import ApiError
from local_aws.hosting.scaling import ScalingService
from local_aws.hosting.scaling_observers import TrackingObserver
from sizing.autoscaling import Bounds, desired_capacity
from sizing.schedules import next_due

RESOURCE = "endpoint/e/variant/v"
INVOCATIONS = "SageMakerVariantInvocationsPerInstance"
CONCURRENCY = "SageMakerVariantConcurrentRequestsPerModelHighResolution"


@dataclass
class Replica:
    in_flight: int = 0


@dataclass
class Variant:
    desired: int = 1
    in_flight: int = 0

    @property
    def ready(self) -> list[Replica]:
        return [Replica(self.in_flight) for _ in range(self.desired)]


@dataclass
class Endpoint:
    """An endpoint with one variant, its invocations, and the clock."""

    variant: Variant = field(default_factory=Variant)
    invocations: Counter[tuple[str, ...]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, ...]] = field(default_factory=Counter)
    updating: bool = False
    now: float = 0.0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def moment(self) -> datetime:
        return self.began + timedelta(seconds=self.now)

    @property
    def fleets(self) -> dict[str, Any]:
        return {"e": self}

    @property
    def variants(self) -> dict[str, Variant]:
        return {"v": self.variant}

    def handle(self, operation: str, request: dict[str, Any]) -> None:
        assert operation == "UpdateEndpointWeightsAndCapacities"
        if self.updating:
            raise ApiError("ValidationException", "the endpoint is being updated")
        self.variant.desired = request["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"]

    def minutes(self, service: ScalingService, count: int, invocations_per_minute: int = 0) -> None:
        """Lets minutes pass, in which all instances together get that many invocations."""
        for _ in range(count * 6):
            self.now += 10
            self.invocations["e", "v"] += round(invocations_per_minute / 6)
            service.evaluate(self.now, self.moment)


def service(tmp_path: Path, endpoint: Endpoint, metric: str = INVOCATIONS, target: float = 60.0, **more: Any) -> Any:
    made = ScalingService(tmp_path, endpoint, endpoint)  # type: ignore[arg-type]
    made.handle("RegisterScalableTarget", scalable_target())
    made.handle("PutScalingPolicy", policy(metric, target, **more))
    made.evaluate(endpoint.now, endpoint.moment)
    return made


def scalable_target(minimum: int = 1, maximum: int = 4, **more: Any) -> dict[str, Any]:
    return {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": RESOURCE,
        "MinCapacity": minimum,
        "MaxCapacity": maximum,
        **more,
    }


def policy(metric: str = INVOCATIONS, target: float = 60.0, **more: Any) -> dict[str, Any]:
    return {
        "PolicyName": "p",
        "PolicyType": "TargetTrackingScaling",
        "ResourceId": RESOURCE,
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            "ScaleOutCooldown": 300,
            "ScaleInCooldown": 600,
            **more,
        },
    }


def test_three_minutes_over_the_target_scale_out_in_proportion(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    endpoint.minutes(scaling, 2, 180)
    assert endpoint.variant.desired == 1
    endpoint.minutes(scaling, 1, 180)
    assert endpoint.variant.desired == 3


def test_capacity_never_goes_over_its_maximum(tmp_path: Path) -> None:
    endpoint = Endpoint()
    endpoint.minutes(service(tmp_path, endpoint), 3, 6000)
    assert endpoint.variant.desired == 4


def test_a_scale_out_waits_for_the_cooldown_of_the_last_one(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    endpoint.minutes(scaling, 3, 120)
    assert endpoint.variant.desired == 2
    endpoint.minutes(scaling, 4, 240)
    assert endpoint.variant.desired == 2
    endpoint.minutes(scaling, 1, 240)
    assert endpoint.variant.desired == 4


def test_fifteen_quiet_minutes_scale_in_and_never_below_the_minimum(tmp_path: Path) -> None:
    endpoint = Endpoint(Variant(desired=3))
    scaling = service(tmp_path, endpoint)
    endpoint.minutes(scaling, 14, 0)
    assert endpoint.variant.desired == 3
    endpoint.minutes(scaling, 1, 0)
    assert endpoint.variant.desired == 1


def test_a_load_just_under_the_target_scales_nothing_in(tmp_path: Path) -> None:
    endpoint = Endpoint(Variant(desired=2))
    endpoint.minutes(service(tmp_path, endpoint), 30, 114)
    assert endpoint.variant.desired == 2


def test_scale_in_can_be_disabled(tmp_path: Path) -> None:
    endpoint = Endpoint(Variant(desired=3))
    endpoint.minutes(service(tmp_path, endpoint, DisableScaleIn=True), 30, 0)
    assert endpoint.variant.desired == 3


def test_the_high_resolution_metric_scales_out_within_half_a_minute(tmp_path: Path) -> None:
    endpoint = Endpoint(Variant(desired=1, in_flight=8))
    scaling = service(tmp_path, endpoint, CONCURRENCY, 4.0)
    for _ in range(3):
        endpoint.now += 10
        scaling.evaluate(endpoint.now, endpoint.moment)
    assert endpoint.variant.desired == 2


def test_an_endpoint_that_is_being_updated_is_scaled_at_the_next_point(tmp_path: Path) -> None:
    endpoint = Endpoint(updating=True)
    scaling = service(tmp_path, endpoint)
    endpoint.minutes(scaling, 3, 120)
    assert endpoint.variant.desired == 1
    endpoint.updating = False
    endpoint.minutes(scaling, 3, 120)
    assert endpoint.variant.desired == 2


def test_activities_say_what_was_done_and_why(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    endpoint.minutes(scaling, 3, 120)
    (activity,) = scaling.handle("DescribeScalingActivities", {"ResourceId": RESOURCE})["ScalingActivities"]
    assert activity["Description"] == "Setting desired instance count to 2."
    assert activity["Cause"] == "policy p: the metric is 120.0, its target 60.0; from 1"


def test_targets_and_policies_outlive_the_process(tmp_path: Path) -> None:
    endpoint = Endpoint()
    service(tmp_path, endpoint)
    again = ScalingService(tmp_path, endpoint, endpoint)  # type: ignore[arg-type]
    again.restore()
    assert len(again.handle("DescribeScalableTargets", {})["ScalableTargets"]) == 1
    assert len(again.handle("DescribeScalingPolicies", {"ResourceId": RESOURCE})["ScalingPolicies"]) == 1


def test_a_deregistered_target_takes_its_policies_along(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    scaling.handle("DeregisterScalableTarget", {"ResourceId": RESOURCE})
    assert scaling.handle("DescribeScalingPolicies", {})["ScalingPolicies"] == []
    endpoint.minutes(scaling, 5, 600)
    assert endpoint.variant.desired == 1


def scheduled(schedule: str, minimum: int = 3, maximum: int = 5) -> dict[str, Any]:
    return {
        "ResourceId": RESOURCE,
        "ScheduledActionName": "s",
        "Schedule": schedule,
        "ScalableTargetAction": {"MinCapacity": minimum, "MaxCapacity": maximum},
    }


def steps(tmp_path: Path, endpoint: Endpoint, periods: int = 1) -> Any:
    made = ScalingService(tmp_path, endpoint, endpoint)  # type: ignore[arg-type]
    made.handle("RegisterScalableTarget", scalable_target(maximum=6))
    arn = made.handle(
        "PutScalingPolicy",
        {
            "PolicyName": "steps",
            "PolicyType": "StepScaling",
            "ResourceId": RESOURCE,
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": "ChangeInCapacity",
                "Cooldown": 120.0,
                "StepAdjustments": [
                    {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 100.0, "ScalingAdjustment": 1.0},
                    {"MetricIntervalLowerBound": 100.0, "ScalingAdjustment": 3.0},
                ],
            },
        },
    )["PolicyARN"]
    alarm: Any = {
        "AlarmActions": [arn],
        "MetricName": "InvocationsPerInstance",
        "Statistic": "Sum",
        "ComparisonOperator": "GreaterThanThreshold",
        "Dimensions": [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}],
        "Period": 60,
        "EvaluationPeriods": periods,
        "Threshold": 60.0,
    }
    made.take_alarms([alarm])
    made.evaluate(endpoint.now, endpoint.moment)
    return made


@pytest.mark.parametrize(("invocations", "desired"), [(60, 1), (120, 2), (300, 4)])
def test_a_step_is_as_large_as_the_breach(tmp_path: Path, invocations: int, desired: int) -> None:
    endpoint = Endpoint()
    endpoint.minutes(steps(tmp_path, endpoint), 1, invocations)
    assert endpoint.variant.desired == desired


def test_steps_wait_for_their_alarms_periods_and_for_the_cooldown(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = steps(tmp_path, endpoint, periods=2)
    endpoint.minutes(scaling, 1, 120)
    assert endpoint.variant.desired == 1
    endpoint.minutes(scaling, 1, 120)
    assert endpoint.variant.desired == 2
    endpoint.minutes(scaling, 1, 240)
    assert endpoint.variant.desired == 2
    endpoint.minutes(scaling, 1, 240)
    assert endpoint.variant.desired == 3


def test_a_step_policy_without_an_alarm_does_nothing(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = steps(tmp_path, endpoint)
    scaling.take_alarms([])
    endpoint.minutes(scaling, 5, 6000)
    assert endpoint.variant.desired == 1


def test_a_scheduled_action_sets_bounds_and_brings_the_count_within(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    scaling.handle("PutScheduledAction", scheduled("rate(5 minutes)"))
    endpoint.minutes(scaling, 4)
    assert endpoint.variant.desired == 1
    endpoint.minutes(scaling, 2)
    assert endpoint.variant.desired == 3
    (target,) = scaling.handle("DescribeScalableTargets", {})["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 5)
    again = ScalingService(tmp_path, endpoint, endpoint)  # type: ignore[arg-type]
    again.restore()
    assert len(again.handle("DescribeScheduledActions", {"ResourceId": RESOURCE})["ScheduledActions"]) == 1


def suspend(scaling: ScalingService, **state: bool) -> None:
    scaling.handle("RegisterScalableTarget", scalable_target(SuspendedState=state))


def test_a_suspended_scale_out_waits_until_it_is_resumed(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    suspend(scaling, DynamicScalingOutSuspended=True)
    endpoint.minutes(scaling, 5, 180)
    assert endpoint.variant.desired == 1
    suspend(scaling, DynamicScalingOutSuspended=False)
    endpoint.minutes(scaling, 3, 180)
    assert endpoint.variant.desired == 3


def test_a_suspended_scale_in_lets_the_policy_scale_out(tmp_path: Path) -> None:
    endpoint = Endpoint(Variant(desired=2))
    scaling = service(tmp_path, endpoint)
    suspend(scaling, DynamicScalingInSuspended=True)
    endpoint.minutes(scaling, 20, 0)
    assert endpoint.variant.desired == 2
    endpoint.minutes(scaling, 3, 180)
    assert endpoint.variant.desired == 3


def test_suspended_schedules_change_no_bounds(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    scaling.handle("PutScheduledAction", scheduled("rate(5 minutes)"))
    suspend(scaling, ScheduledScalingSuspended=True)
    endpoint.minutes(scaling, 6)
    assert endpoint.variant.desired == 1
    suspend(scaling, ScheduledScalingSuspended=False)
    endpoint.minutes(scaling, 6)
    assert endpoint.variant.desired == 3


@pytest.mark.parametrize(("start", "end", "desired"), [(0, 60, 3), (30, 60, 1), (0, 4, 1)])
def test_a_schedule_is_due_between_its_start_and_its_end(tmp_path: Path, start: int, end: int, desired: int) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    limits = {
        name: (endpoint.began + timedelta(minutes=minutes)).timestamp()
        for name, minutes in (("StartTime", start), ("EndTime", end))
    }
    scaling.handle("PutScheduledAction", {**scheduled("rate(5 minutes)"), **limits})
    endpoint.minutes(scaling, 12)
    assert endpoint.variant.desired == desired


def test_a_target_below_its_minimum_scales_out_once_its_endpoint_is_updated(tmp_path: Path) -> None:
    endpoint = Endpoint(updating=True)
    scaling = service(tmp_path, endpoint)
    scaling.handle("RegisterScalableTarget", scalable_target(3, 4))
    endpoint.minutes(scaling, 1)
    assert endpoint.variant.desired == 1
    endpoint.updating = False
    endpoint.minutes(scaling, 1)
    assert endpoint.variant.desired == 3


def test_a_policy_that_cannot_be_evaluated_does_not_keep_others_from_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint()
    scaling = service(tmp_path, endpoint)
    scaling.handle("PutScalingPolicy", {**policy(), "PolicyName": "broken"})
    observe = TrackingObserver.observe

    def fail(observer: TrackingObserver, *arguments: Any) -> bool:
        if observer.policy["PolicyName"] == "broken":
            raise ZeroDivisionError
        return observe(observer, *arguments)

    monkeypatch.setattr(TrackingObserver, "observe", fail)
    endpoint.minutes(scaling, 3, 180)
    assert endpoint.variant.desired == 3


@pytest.mark.parametrize(
    ("schedule", "timezone", "after", "due"),
    [
        ("at(2026-11-21T08:00:00)", "UTC", "2026-11-21T07:00:00+00:00", "2026-11-21T08:00:00+00:00"),
        ("at(2026-11-21T08:00:00)", "UTC", "2026-11-21T09:00:00+00:00", None),
        ("rate(2 hours)", "UTC", "2026-11-21T07:00:00+00:00", "2026-11-21T09:00:00+00:00"),
        ("cron(0 7 * * ? *)", "UTC", "2026-11-21T07:00:00+00:00", "2026-11-22T07:00:00+00:00"),
        # Sunday is 1 on AWS, so 2-6 is Monday to Friday; 2026-11-21 is a Saturday.
        ("cron(30 9 ? * 2-6 *)", "UTC", "2026-11-21T07:00:00+00:00", "2026-11-23T09:30:00+00:00"),
        ("cron(30 9 ? * wed *)", "UTC", "2026-11-21T07:00:00+00:00", "2026-11-25T09:30:00+00:00"),
        ("cron(0/15 * * * ? *)", "UTC", "2026-11-21T07:01:00+00:00", "2026-11-21T07:15:00+00:00"),
        # Summer time begins in between: 07:00 in Paris is 06:00 before and 05:00 after.
        ("cron(0 7 * * ? *)", "Europe/Paris", "2026-03-28T07:00:00+00:00", "2026-03-29T05:00:00+00:00"),
        ("cron(0 0 1 1 ? 2025)", "UTC", "2026-11-21T07:00:00+00:00", None),
    ],
)
def test_schedules_are_due_when_aws_says(schedule: str, timezone: str, after: str, due: str | None) -> None:
    found = next_due(schedule, timezone, datetime.fromisoformat(after))
    assert found == (datetime.fromisoformat(due) if due else None)


@pytest.mark.parametrize(
    ("operation", "request_", "part"),
    [
        ("RegisterScalableTarget", scalable_target(3, 2), "MinCapacity is 3 and MaxCapacity 2"),
        ("RegisterScalableTarget", scalable_target(ServiceNamespace="ecs"), "the local account only scales"),
        ("RegisterScalableTarget", scalable_target(ResourceId="table/t"), "'table/t'"),
        ("PutScalingPolicy", policy("CPUUtilization"), "'CPUUtilization'"),
        ("PutScalingPolicy", policy(target=0), "TargetValue is 0"),
        ("PutScalingPolicy", {**policy(), "PolicyType": "StepScaling"}, "AdjustmentType is missing"),
        ("PutScheduledAction", scheduled("cron(0 7 * *)"), "write minutes, hours, day of month"),
        ("PutScheduledAction", scheduled("every day"), "write at("),
        ("PutScheduledAction", scheduled("rate(0 minutes)"), "rate(0 minutes)"),
        ("PutScheduledAction", scheduled("cron(0 7 L * ? *)"), "does not support L"),
        ("PutScheduledAction", scheduled("cron(0 25 * * ? *)"), "cron(0 25 * * ? *)"),
        ("PutScheduledAction", {**scheduled("rate(1 day)"), "Timezone": "Mars"}, "Timezone is 'Mars'"),
        ("DeleteScheduledAction", scheduled("rate(1 day)"), "No scheduled action found"),
        ("PutScalingPolicy", {**policy(), "ResourceId": "endpoint/x/variant/y"}, "No scalable target registered"),
        ("DeregisterScalableTarget", {"ResourceId": "endpoint/x/variant/y"}, "No scalable target found"),
        ("DeleteScalingPolicy", {"PolicyName": "x"}, "No scaling policy found"),
        (
            "GetPredictiveScalingForecast",
            {},
            "does not implement Application Auto Scaling GetPredictiveScalingForecast",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    tmp_path: Path, operation: str, request_: dict[str, Any], part: str
) -> None:
    with pytest.raises(ApiError) as raised:
        service(tmp_path, Endpoint()).handle(operation, request_)
    assert part in str(raised.value)


@settings(derandomize=True)
@given(current=st.integers(1, 100), metric=st.floats(0, 1e6), target=st.floats(0.01, 1e4), minimum=st.integers(1, 10))
def test_the_desired_capacity_brings_the_metric_to_its_target_or_to_the_bounds(
    current: int, metric: float, target: float, minimum: int
) -> None:
    new = desired_capacity(current, metric, target, Bounds(minimum, 50))
    assert minimum <= new <= 50
    if minimum < new < 50:
        assert current * metric / new <= target * (1 + 1e-9)
