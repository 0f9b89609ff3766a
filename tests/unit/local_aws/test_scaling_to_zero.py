"""Copies of an inference component under scaling: down to none when nothing comes, back for a request refused."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_aws.hosting.errors import ApiError
from local_aws.hosting.scaling import ScalingService

RESOURCE = "inference-component/c"
DIMENSION = "sagemaker:inference-component:DesiredCopyCount"
INVOCATIONS = "SageMakerInferenceComponentInvocationsPerCopy"
CONCURRENCY = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"


@dataclass
class Replica:
    in_flight: int = 0


@dataclass
class Copies:
    desired: int = 1
    in_flight: int = 0

    @property
    def ready(self) -> list[Replica]:
        return [Replica(self.in_flight) for _ in range(self.desired)]


@dataclass
class Account:
    """A control plane with one component, its metrics, and the clock."""

    c: Copies = field(default_factory=Copies)
    invocations: Counter[tuple[str, ...]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, ...]] = field(default_factory=Counter)
    updating: bool = False
    now: float = 0.0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def components(self) -> "Account":
        return self

    def copies(self, name: str) -> Copies | None:
        return self.c if name == "c" else None

    def handle(self, operation: str, request: dict[str, Any]) -> None:
        assert operation == "UpdateInferenceComponentRuntimeConfig"
        if self.updating:
            raise ApiError("ValidationException", "it is being updated")
        assert request["InferenceComponentName"] == "c"
        self.c.desired = request["DesiredRuntimeConfig"]["CopyCount"]

    def minutes(self, service: ScalingService, count: int, per_minute: int = 0, refused: int = 0) -> None:
        """Lets minutes pass, in which so many requests were answered and refused."""
        for _ in range(count * 6):
            self.now += 10
            self.invocations["c",] += round(per_minute / 6)
            self.refusals["c",] += round(refused / 6)
            service.evaluate(self.now, self.began + timedelta(seconds=self.now))


def target(**changes: Any) -> dict[str, Any]:
    given = {"ServiceNamespace": "sagemaker", "ScalableDimension": DIMENSION, "ResourceId": RESOURCE}
    return {**given, "MinCapacity": 0, "MaxCapacity": 4, **changes}


def tracking(metric: str = INVOCATIONS, value: float = 60.0) -> dict[str, Any]:
    return {
        "PolicyName": "follow",
        "PolicyType": "TargetTrackingScaling",
        "ResourceId": RESOURCE,
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": value,
            "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 60,
        },
    }


def wake() -> dict[str, Any]:
    return {
        "PolicyName": "from-zero",
        "PolicyType": "StepScaling",
        "ResourceId": RESOURCE,
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 300.0,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1.0}],
        },
    }


def alarm(arn: str, **changes: Any) -> Any:
    return {
        "AlarmActions": [arn],
        "MetricName": "NoCapacityInvocationFailures",
        "Statistic": "Sum",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "Dimensions": [{"Name": "InferenceComponentName", "Value": "c"}],
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        **changes,
    }


def service(tmp_path: Path, account: Account, **changes: Any) -> Any:
    made = ScalingService(tmp_path, account, account)  # type: ignore[arg-type]
    made.handle("RegisterScalableTarget", target())
    made.handle("PutScalingPolicy", tracking())
    arn = made.handle("PutScalingPolicy", wake())["PolicyARN"]
    made.take_alarms([alarm(arn, **changes)])
    made.evaluate(account.now, account.began)
    return made


def test_copies_follow_their_invocations(tmp_path: Path) -> None:
    account = Account()
    account.minutes(service(tmp_path, account), 3, 180)
    assert account.c.desired == 3


def test_copies_follow_the_requests_in_flight(tmp_path: Path) -> None:
    account = Account(Copies(in_flight=6))
    scaling = service(tmp_path, account)
    scaling.handle("PutScalingPolicy", tracking(CONCURRENCY, 2.0))
    scaling.evaluate(account.now, account.began)
    account.minutes(scaling, 1, 0)
    assert account.c.desired == 3


def test_fifteen_minutes_without_a_request_leave_no_copy(tmp_path: Path) -> None:
    account = Account(Copies(desired=2))
    scaling = service(tmp_path, account)
    account.minutes(scaling, 14)
    assert account.c.desired == 2
    account.minutes(scaling, 1)
    assert account.c.desired == 0
    (activity,) = scaling.handle("DescribeScalingActivities", {"ResourceId": RESOURCE})["ScalingActivities"]
    assert activity["Description"] == "Setting desired copy count to 0."
    assert activity["ScalableDimension"] == DIMENSION


def test_a_single_request_in_the_last_minutes_keeps_one_copy(tmp_path: Path) -> None:
    account = Account(Copies(desired=2))
    scaling = service(tmp_path, account)
    account.minutes(scaling, 14)
    account.minutes(scaling, 1, 6)
    assert account.c.desired == 1


def test_target_tracking_alone_never_leaves_zero(tmp_path: Path) -> None:
    account = Account(Copies(desired=0))
    scaling = service(tmp_path, account)
    scaling.handle("DeleteScalingPolicy", {"PolicyName": "from-zero"})
    account.minutes(scaling, 30, 0, refused=600)
    assert account.c.desired == 0


@pytest.mark.parametrize("statistic", ["Sum", "Maximum"])
def test_one_refused_request_starts_one_copy_within_a_minute(tmp_path: Path, statistic: str) -> None:
    account = Account(Copies(desired=0))
    scaling = service(tmp_path, account, Statistic=statistic)
    account.refusals["c",] += 1
    account.minutes(scaling, 1)
    assert account.c.desired == 1


def test_requests_refused_while_the_copy_starts_add_no_further_one_within_the_cooldown(tmp_path: Path) -> None:
    account = Account(Copies(desired=0))
    scaling = service(tmp_path, account)
    account.minutes(scaling, 5, refused=60)
    assert account.c.desired == 1
    account.minutes(scaling, 1, refused=60)
    assert account.c.desired == 2


def test_a_scale_in_does_not_hold_up_the_next_scale_out(tmp_path: Path) -> None:
    account = Account()
    scaling = service(tmp_path, account)
    account.minutes(scaling, 15)
    assert account.c.desired == 0
    account.minutes(scaling, 1, refused=60)
    assert account.c.desired == 1


def test_a_copy_that_came_from_zero_stays_for_the_cooldown(tmp_path: Path) -> None:
    account = Account(Copies(desired=1))
    scaling = service(tmp_path, account)
    account.minutes(scaling, 15)
    assert account.c.desired == 0
    account.minutes(scaling, 1, refused=60)
    assert account.c.desired == 1
    account.minutes(scaling, 4)
    assert account.c.desired == 1


def test_a_component_that_is_being_updated_is_scaled_when_that_is_done(tmp_path: Path) -> None:
    account = Account(Copies(desired=0), updating=True)
    scaling = service(tmp_path, account)
    account.minutes(scaling, 2, refused=60)
    assert account.c.desired == 0
    account.updating = False
    account.minutes(scaling, 1, refused=60)
    assert account.c.desired == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"Dimensions": [{"Name": "InferenceComponentName", "Value": "other"}]},
        {"MetricName": "Invocations"},
        {"AlarmActions": ["arn:aws:sns:us-east-1:000000000000:someone"]},
    ],
)
def test_an_alarm_over_something_else_starts_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    account = Account(Copies(desired=0))
    account.minutes(service(tmp_path, account, **changes), 2, refused=60)
    assert account.c.desired == 0


def test_a_schedule_may_stop_every_copy(tmp_path: Path) -> None:
    account = Account(Copies(desired=3))
    scaling = service(tmp_path, account)
    scaling.handle(
        "PutScheduledAction",
        {
            "ResourceId": RESOURCE,
            "ScheduledActionName": "night",
            "Schedule": "rate(2 minutes)",
            "ScalableTargetAction": {"MinCapacity": 0, "MaxCapacity": 0},
        },
    )
    account.minutes(scaling, 3, 180)
    assert account.c.desired == 0
    account.minutes(scaling, 1, refused=60)
    assert account.c.desired == 0


@pytest.mark.parametrize(
    ("operation", "request_", "part"),
    [
        ("RegisterScalableTarget", target(MinCapacity=-1), "0 <= minimum <= maximum"),
        (
            "RegisterScalableTarget",
            target(ScalableDimension="sagemaker:variant:DesiredInstanceCount"),
            f"ScalableDimension of {RESOURCE} is {DIMENSION}",
        ),
        (
            "RegisterScalableTarget",
            target(ResourceId="endpoint/e/variant/v", ScalableDimension="sagemaker:variant:DesiredInstanceCount"),
            "1 <= minimum <= maximum",
        ),
        ("PutScalingPolicy", tracking("SageMakerVariantInvocationsPerInstance"), f"supported are {INVOCATIONS}"),
    ],
)
def test_what_is_for_instances_is_refused_for_copies(
    tmp_path: Path, operation: str, request_: dict[str, Any], part: str
) -> None:
    with pytest.raises(ApiError) as raised:
        service(tmp_path, Account()).handle(operation, request_)
    assert part in str(raised.value)
