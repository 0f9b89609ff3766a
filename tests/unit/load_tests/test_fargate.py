"""A load test on Fargate: what is started, what is told, and that nothing is left, whatever happens."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from load_tests import fargate
from load_tests.fargate import Capacity, FargateRun, run
from load_tests.fargate_tasks import Task
from load_tests.launch import LoadTestError
from load_tests.plan import Plan
from local_aws.account import ROOT
from tests.unit.load_tests import interrupted_fargate
from tests.unit.load_tests.fake_fargate import (
    BEGAN,
    CLUSTER,
    FALLING_BACK,
    FULL_PRICE,
    NO_CAPACITY,
    REQUESTS,
    SPOT,
    FakeAccount,
    ordinary_course,
    plan,
)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> FakeAccount:
    fake = FakeAccount(ordinary_course)
    monkeypatch.setattr(boto3, "client", fake.client)
    monkeypatch.setattr(fargate, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(fargate, "_LOCAL_POLL_SECONDS", 0.001)
    return fake


@pytest.fixture
def notes() -> list[str]:
    return []


def loaded(
    folder: Path,
    notes: list[str],
    made: Plan | None = None,
    capacity: Capacity = SPOT,
    on_event: Callable[[Any], object] = lambda _event: None,
) -> FargateRun:
    return run(made or plan(), REQUESTS, folder, CLUSTER, capacity, on_event, notes.append)


def still_running(account: FakeAccount) -> list[str]:
    return [task.arn for task in account.tasks if task.status != "STOPPED"]


def test_the_result_is_the_masters_and_stays_beside_its_plan_and_requests(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    done = loaded(tmp_path / "new", notes)
    assert done.result.passed
    assert (tmp_path / "new/result.json").exists()
    prefix = done.url.removeprefix("s3://artifacts/")
    assert prefix.startswith("load-tests/e/")
    assert sorted(account.objects) == [f"{prefix}/{name}" for name in ("feed.jsonl", "plan.json", "result.json")]
    sent = Plan.model_validate_json(account.objects[f"{prefix}/plan.json"])
    assert sent == plan(feed=f"{done.url}/feed.jsonl", connect=900)
    assert notes == []


def test_workers_find_the_master_at_its_private_address(account: FakeAccount, tmp_path: Path, notes: list[str]) -> None:
    loaded(tmp_path, notes)
    assert account.master.environment["LOAD_TEST_MASTER"] == "*:5557"
    assert {task.environment["LOAD_TEST_MASTER"] for task in account.of("worker")} == {"10.43.0.7:5557"}


def test_in_the_local_account_the_master_listens_on_loopback_only(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    loaded(tmp_path, notes, plan(location="local"))
    assert account.master.environment["LOAD_TEST_MASTER"] == "127.0.0.1:0"


def test_tasks_are_started_in_batches_of_ten_as_ecs_has_it(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    loaded(tmp_path, notes, plan(workers=25))
    assert [request["count"] for name, request in account.asked if name == "RunTask"] == [1, 10, 10, 5]
    assert len(account.of("worker")) == 25


@pytest.mark.parametrize(("capacity", "spot"), [(SPOT, True), (FULL_PRICE, False)])
def test_workers_run_on_spot_by_setting_and_the_master_never_does(
    capacity: Capacity, spot: bool, account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    done = loaded(tmp_path, notes, capacity=capacity)
    assert [(task.role, task.spot) for task in account.tasks] == [("master", False), ("worker", spot)]
    assert [(task.role, task.spot) for task in done.tasks] == [("master", False), ("worker", spot)]


def test_no_task_has_a_public_address(account: FakeAccount, tmp_path: Path, notes: list[str]) -> None:
    loaded(tmp_path, notes)
    for task in account.tasks:
        assert task.request["networkConfiguration"]["awsvpcConfiguration"] == {
            "subnets": ["subnet-1", "subnet-2"],
            "securityGroups": ["sg-1"],
            "assignPublicIp": "DISABLED",
        }


@pytest.mark.usefixtures("account")
def test_events_are_passed_on_and_words_are_not(tmp_path: Path, notes: list[str]) -> None:
    told: list[Any] = []
    loaded(tmp_path, notes, on_event=told.append)
    assert [event for event in told if event["event"] != "status"] == [
        {"event": "connected", "workers": 1},
        {"event": "second", "second": 0},
    ]
    assert [event["text"] for event in told if event["event"] == "status"][-1] == "stopping the tasks"


def spot_is_short(request: dict[str, Any]) -> str | None:
    return NO_CAPACITY if request["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT" else None


@pytest.mark.parametrize("how", ["refuse", "fail"])
def test_a_shortage_of_spot_is_an_error_that_names_the_settings(
    how: str, account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    setattr(account, how, spot_is_short)
    with pytest.raises(LoadTestError, match=r"no Fargate Spot capacity.*load_test\.without_spot: on_demand, or"):
        loaded(tmp_path, notes, plan(workers=2))
    assert still_running(account) == []


@pytest.mark.parametrize(("how", "spot"), [("refuse", 0), ("fail", 2)])
def test_where_the_setting_says_so_what_spot_has_no_room_for_runs_at_full_price(
    how: str, spot: int, account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    setattr(account, how, spot_is_short)
    loaded(tmp_path, notes, plan(workers=3), FALLING_BACK)
    workers = account.of("worker")
    assert (len(workers), sum(task.spot for task in workers)) == (3, spot)
    assert notes == [f"no Fargate Spot capacity: running {3 - spot} of the workers at full price"]


def test_a_worker_that_spot_never_placed_is_replaced_at_full_price(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    def turn(fake: FakeAccount) -> None:
        if [task.spot for task in fake.of("worker")] == [True]:
            fake.of("worker")[0].stop(NO_CAPACITY, "TaskFailedToStart", None)
        else:
            ordinary_course(fake)

    account.turn = turn
    loaded(tmp_path, notes, capacity=FALLING_BACK)
    assert [task.spot for task in account.of("worker")] == [True, False]
    assert notes == ["no Fargate Spot capacity: running 1 of the workers at full price"]


def test_a_worker_that_cannot_begin_ends_the_test_with_its_reason_and_last_words(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    def turn(fake: FakeAccount) -> None:
        if not fake.of("worker"):
            ordinary_course(fake)
        else:
            fake.say(fake.of("worker")[0], "error: AccessDenied")
            fake.of("worker")[0].stop("Essential container exited", exit_code=2)

    account.turn = turn
    expected = (
        r"worker task 1 stopped: Essential container exited, exit code 2; its last output: .*AccessDenied; its log"
    )
    with pytest.raises(LoadTestError, match=expected):
        loaded(tmp_path, notes)
    assert still_running(account) == []


def test_an_image_that_cannot_be_pulled_is_told_at_once(account: FakeAccount, tmp_path: Path, notes: list[str]) -> None:
    account.turn = lambda fake: fake.master.stop("CannotPullContainerError: i/o timeout", "TaskFailedToStart", None)
    with pytest.raises(LoadTestError, match="master task 0 stopped: CannotPullContainerError: i/o timeout; its log is"):
        loaded(tmp_path, notes)
    assert account.of("worker") == []


def test_a_master_without_a_result_is_told_with_its_last_words(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    def turn(fake: FakeAccount) -> None:
        if not fake.of("worker"):
            ordinary_course(fake)
        else:
            fake.say(fake.master, "error: 0 of 1 workers connected")
            fake.master.stop("Essential container exited", exit_code=2)

    account.turn = turn
    with pytest.raises(LoadTestError, match=r"exit code 2; its last output: .*0 of 1 workers connected"):
        loaded(tmp_path, notes)
    assert still_running(account) == []


@pytest.mark.parametrize(
    ("reason", "code", "exit_code", "told"),
    [
        ("Your Spot Task was interrupted.", "SpotInterruption", 143, "Fargate Spot reclaimed a worker: worker task 1"),
        ("Essential container exited", "EssentialContainerExited", 137, "a worker was lost: worker task 1 stopped"),
    ],
)
def test_a_worker_that_is_lost_is_told_and_the_test_goes_on(
    reason: str, code: str, exit_code: int, told: str, account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    def lose(event: Any) -> None:
        if event["event"] == "connected":
            account.of("worker")[0].stop(reason, code, exit_code)
            account.turn = lambda fake: ordinary_course(fake) if notes else None

    assert loaded(tmp_path, notes, on_event=lose).result.passed
    assert len(notes) == 1
    assert notes[0].startswith(told)
    assert f"{reason}, exit code {exit_code}" in notes[0]


@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_task_and_a_second_one_does_not_keep_it_from_that(
    received: signal.Signals, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", interrupted_fargate.__name__, received.name, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert interrupted_fargate.Seen(**json.loads(ended.stdout)) == interrupted_fargate.Seen(
        signals=2,
        interrupted=True,
        stopped=["the load test is over"] * 13,
        notes=["interrupted: stopping the tasks"],
        handlers_are_back=True,
    )


def test_a_task_whose_start_was_never_answered_is_stopped_too(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    account.answer_lost = True
    with pytest.raises(ClientError, match="who knows"):
        loaded(tmp_path, notes)
    assert len(account.tasks) > 0
    assert still_running(account) == []


def test_tasks_that_cannot_be_stopped_are_named_and_the_first_error_is_told(
    account: FakeAccount, tmp_path: Path, notes: list[str]
) -> None:
    def turn(fake: FakeAccount) -> None:
        if fake.of("worker"):
            fake.say(fake.of("worker")[0], "error: no credentials")
            fake.of("worker")[0].stop("Essential container exited", exit_code=2)
        else:
            ordinary_course(fake)

    account.turn, account.stops = turn, False
    with pytest.raises(LoadTestError, match="no credentials"):
        loaded(tmp_path, notes)
    assert "not yours" in notes[0]
    assert "may still run and be billed: aws ecs stop-task --cluster c --task arn:task/c/0" in notes[1]


def test_a_master_that_never_ends_is_stopped(
    account: FakeAccount, tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fargate, "_START_SECONDS", 0.05)
    account.turn = lambda _fake: None
    with pytest.raises(LoadTestError, match=r"is not listening after 0\.05 s: its task is RUNNING"):
        loaded(tmp_path, notes)
    assert still_running(account) == []


def test_a_task_is_billed_from_the_download_of_its_image_and_for_a_minute_at_least() -> None:
    task = Task("arn:task/c/0", "worker", True, "STOPPED", began=BEGAN, ended=BEGAN.replace(second=12))
    assert task.seconds == 60
    assert Task("arn:task/c/0", "worker", True, "STOPPED", began=BEGAN, ended=BEGAN.replace(minute=5)).seconds == 300
    assert Task("arn:task/c/0", "worker", True, "STOPPED", ended=BEGAN).seconds == 0, "it never took its image"
