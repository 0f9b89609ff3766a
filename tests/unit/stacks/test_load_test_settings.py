"""Settings of load tests on Fargate refuse what Fargate would, and say what it takes."""

from typing import Any

import pytest
from pydantic import ValidationError

from stacks.settings.deployment import Deployment
from stacks.settings.load_test import LoadTest

VPC = {"subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]}


def test_a_worker_has_one_core_and_runs_on_spot_unless_told_otherwise() -> None:
    made = LoadTest()
    assert (made.vcpus, made.memory_gib, made.spot, made.without_spot) == (1, 2, True, "fail")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vcpus": 3}, "vcpus is 3: Fargate has tasks of 0.25, 0.5, 1, 2, 4, 8, 16"),
        ({"memory_gib": 1}, "memory_gib is 1 with 1 vcpus: choose one of 2, 3, 4, 5, 6, 7, 8"),
        ({"vcpus": 8, "memory_gib": 18}, "memory_gib is 18 with 8 vcpus: choose one of 16, 20"),
        ({"vpc": VPC, "vpc_cidr": "10.0.0.0/16"}, "vpc is set beside vpc_cidr or availability_zones"),
        ({"without_spot": "wait"}, "Input should be 'fail' or 'on_demand'"),
        ({"max_workers": 0}, "greater than or equal to 1"),
        ({"wokers": 3}, "unknown key 'wokers'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace(".", r"\.")):
        LoadTest.model_validate(settings)


@pytest.mark.parametrize(("vcpus", "memory_gib"), [(0.25, 0.5), (1, 8), (2, 16), (4, 30), (16, 120)])
def test_every_task_size_of_fargate_is_taken(vcpus: float, memory_gib: float) -> None:
    assert LoadTest(vcpus=vcpus, memory_gib=memory_gib).memory_gib == memory_gib


def test_the_published_deployment_has_load_tests_on_fargate_and_the_others_have_none() -> None:
    assert Deployment.named("published").load_test == LoadTest()
    assert Deployment.named("dev").load_test is None
    assert Deployment.named("prod").load_test is None
