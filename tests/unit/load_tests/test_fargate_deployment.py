"""`inference load-test --on fargate` says what is missing before anything starts, and what a run cost after it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commands.main import app
from load_tests.fargate import FargateRun
from load_tests.fargate_deployment import check, cost_line, describe
from load_tests.fargate_tasks import Task
from load_tests.plan import HttpTarget
from load_tests.planning import Asked
from stacks.settings.load_test import LoadTest, TaskVpc
from tests.unit.load_tests.fake_fargate import BEGAN, plan
from tests.unit.load_tests.test_load_results import ordinary

TASK = Task("arn", "master", False, "STOPPED", began=BEGAN, ended=BEGAN + timedelta(hours=1))


def done(location: str, *tasks: Task) -> FargateRun:
    result = ordinary().model_copy(update={"location": location})
    return FargateRun(result, tasks, "s3://artifacts/load-tests/e/1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "fargate"], "the deployment dev has no load_test: add `load_test: {}` to its file and deploy it"),
        (["--on", "moon"], "on is 'moon': choose machine or fargate"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["load-test", "encoder", "--state", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_more_workers_than_the_setting_allows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"workers is 61 and load_test\.max_workers is 60"):
        check(LoadTest(), plan(workers=61, level=61))


def test_servers_that_the_own_network_does_not_reach_are_refused_with_the_setting_that_helps() -> None:
    fleet: dict[str, Any] = {"target": HttpTarget(urls=("http://10.42.0.1",), paths=("/predictions",))}
    with pytest.raises(ValueError, match=r"set load_test\.vpc to subnets and security groups that can"):
        check(LoadTest(), plan(**fleet))
    check(LoadTest(vpc=TaskVpc(subnet_ids=("subnet-1",), security_group_ids=("sg-1",))), plan(**fleet))
    # In the local account all is on one machine.
    check(LoadTest(), plan(location="local", **fleet))


def test_a_result_from_aws_names_its_clients() -> None:
    assert describe(LoadTest(vcpus=2, memory_gib=4), Asked(workers=3)) == "Fargate, 3 workers with 2 vCPUs and 4 GB"


def test_what_a_run_cost_is_told_with_the_prices_day_and_source() -> None:
    line = cost_line(LoadTest(), done("aws", TASK, replace(TASK, spot=True)), "us-east-1")
    assert line == (
        "2 tasks used 2.000 vCPU hours and 4.000 GB hours: $0.0987, less Spot's discount on $0.0494 of it "
        "(AWS Fargate pricing, Linux on x86, as of June 2026, 2026-11-21)"
    )


def test_a_run_in_the_local_account_costs_nothing_and_says_so() -> None:
    assert "1.000 vCPU hours and 2.000 GB hours here, which on Fargate would cost $0.0494" in cost_line(
        LoadTest(), done("local", TASK), "us-east-1"
    )


def test_without_a_price_the_hours_are_told_alone() -> None:
    line = cost_line(LoadTest(), done("aws", TASK), "mars-1")
    assert line.startswith("1 tasks used 1.000 vCPU hours and 2.000 GB hours; their cost is unknown: 0 Fargate prices")
