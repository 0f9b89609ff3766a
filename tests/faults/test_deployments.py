"""Deployments cut short: the emulator killed, the CDK's command line interrupted or killed, a destroy under load.

The tests stand in the order of one deployment's life: made, updated, removed.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from containers.tabular.features import FEATURES, archive_name
from load_tests.closed_loop import Request, Target
from local_aws.account import ROOT, LocalAccount
from tests.faults import endpoints
from tests.faults.load import ANSWERED, Ask, Load, Measured
from tests.local_account import assert_nothing_is_deployed, bootstrap, cdk, runtime, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
# The minutes that an update bakes pass in seconds, and leave time to cut it short in.
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
ENDPOINT, VARIANT, STACK = "faults-tabular-only", "AllTraffic", "Faults-Tabular"
SMALL, LARGE = "ml.c5.xlarge", "ml.c5.2xlarge"
BAKE_SECONDS = 300
ROW = ",".join(str(number) for number in range(len(FEATURES))).encode()

Report = Callable[[Measured], None]


@pytest.fixture(scope="module")
def apps(folder: Path) -> dict[str, Path]:
    """The deployment with either instance type, synthesized once."""
    made = {}
    for instance_type in (SMALL, LARGE):
        endpoint = {"instance_type": instance_type, "guardrails": {"bake_seconds": BAKE_SECONDS}}
        document = {
            "environment": "faults",
            "workloads": {"tabular": {"kind": "tabular", "endpoints": {"only": endpoint}}},
        }
        path = folder / f"{instance_type}.yaml"
        path.write_text(yaml.safe_dump(document))
        made[instance_type] = folder / f"{instance_type}.out"
        done = cdk("synth", "--quiet", "--context", f"deployment={path}", "--output", str(made[instance_type]))
        assert done.returncode == 0, done.stderr[-3000:]
    return made


@pytest.fixture(scope="module", autouse=True)
def bootstrapped(account: LocalAccount) -> None:
    del account
    bootstrap()


def start_deploy(app: Path, log: Path) -> "subprocess.Popen[bytes]":
    """The real command line, in a process group of its own."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["cdk", "deploy", "--all", "--app", str(app), "--require-approval", "never", "--no-notices"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def deploy(app: Path) -> None:
    done = cdk("deploy", "--all", "--app", str(app), "--require-approval", "never")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def stack_status() -> str:
    try:
        (stack,) = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    except ClientError:
        return "none"
    return str(stack["StackStatus"])


def settled() -> bool:
    return not stack_status().endswith("IN_PROGRESS")


def endpoint_is(status: str) -> bool:
    found = boto3.client("sagemaker").list_endpoints()["Endpoints"]
    return [each["EndpointStatus"] for each in found if each["EndpointName"] == ENDPOINT] == [status]


def instance_type() -> str:
    """Of the configuration that the endpoint serves."""
    sagemaker = boto3.client("sagemaker")
    config = sagemaker.describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
    (variant,) = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return str(variant["InstanceType"])


def steady() -> list[Ask]:
    """Requests for three models, their answers of now the right ones."""
    asks = []
    for state in ("CA", "NY", "TX"):
        request: Any = {"ContentType": "text/csv", "TargetModel": archive_name(state), "Body": ROW}
        right = runtime().invoke_endpoint(EndpointName=ENDPOINT, **request)["Body"].read()
        assert 0 < float(right) < 1
        body = Request(body=ROW, content_type="text/csv", target_model=archive_name(state))
        asks.append(Ask(Target(ENDPOINT, VARIANT), body, right))
    return asks


def test_an_emulator_that_is_killed_while_a_stack_is_made_rolls_it_back_and_deploying_again_completes_it(
    apps: dict[str, Path], state: Path, folder: Path, measured: Report
) -> None:
    """The command line ends with an error that says what to do; what was half made is gone; the second try serves."""
    process = start_deploy(apps[SMALL], folder / "first.log")
    # The endpoint comes next, and takes seconds; once it is there, the stack is complete in no time.
    wait_until(lambda: bool(boto3.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]), 120, "its beginning")
    began = time.monotonic()
    os.kill(endpoints.emulator_pid(state), signal.SIGKILL)
    assert process.wait(120) != 0
    told = (folder / "first.log").read_text()
    if "failed creation" in told:
        assert "deploy again" in told
    wait_until(settled, 60, "the rollback")
    assert stack_status() in ("ROLLBACK_COMPLETE", "none")
    assert boto3.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert boto3.client("sagemaker").list_models()["Models"] == []
    recovery = time.monotonic() - began
    deploy(apps[SMALL])
    with Load(steady(), 30) as load:
        load.all_right()
    assert (stack_status(), instance_type()) == ("CREATE_COMPLETE", SMALL)
    measured(load.account("emulator killed while a stack is made", recovery))


@pytest.mark.parametrize(("received", "to"), [(signal.SIGINT, LARGE), (signal.SIGKILL, SMALL)])
def test_a_deploy_whose_command_line_is_cut_short_goes_on_and_can_be_resumed(
    apps: dict[str, Path], folder: Path, measured: Report, received: signal.Signals, to: str
) -> None:
    """As on AWS the stack's update does not depend on who asked for it; not one request notices."""
    with Load(steady(), 30) as load:
        process = start_deploy(apps[to], folder / "cut.log")
        wait_until(lambda: endpoint_is("Updating"), 60, "the update")
        os.killpg(process.pid, received)
        began = time.monotonic()
        assert process.wait(60) != 0
        wait_until(settled, 120, "the update's end")
        deploy(apps[to])
        recovery = load.right_again(began, lambda: endpoint_is("InService"))
    assert (stack_status(), instance_type()) == ("UPDATE_COMPLETE", to)
    assert {met.outcome for met in load.met} == {ANSWERED}
    measured(load.account(f"cdk deploy ended by {received.name} in an update", recovery))


def test_an_emulator_that_is_killed_during_an_update_rolls_it_back_and_no_request_notices(
    apps: dict[str, Path], state: Path, folder: Path, measured: Report
) -> None:
    """The endpoint serves on from the hosting process; the same update goes through afterwards."""
    with Load(steady(), 30) as load:
        process = start_deploy(apps[LARGE], folder / "second.log")
        wait_until(lambda: endpoint_is("Updating"), 60, "the update")
        # The snapshot of a second later knows of the update.
        wait_until(lambda: "_under_way" in (state / "emulator/cloudformation.json").read_text(), 30, "the snapshot")
        began = time.monotonic()
        os.kill(endpoints.emulator_pid(state), signal.SIGKILL)
        assert process.wait(120) != 0
        wait_until(lambda: stack_status() == "UPDATE_ROLLBACK_COMPLETE", 60, "the rollback")
        recovery = load.right_again(began, lambda: endpoint_is("InService"))
        assert instance_type() == SMALL
        deploy(apps[LARGE])
        assert (stack_status(), instance_type()) == ("UPDATE_COMPLETE", LARGE)
    assert {met.outcome for met in load.met} == {ANSWERED}
    measured(load.account("emulator killed in an update", recovery))


def test_a_destroy_under_load_ends_every_request_and_leaves_nothing(apps: dict[str, Path], measured: Report) -> None:
    """A request is answered, or told that there is no such endpoint; none hangs and none fails."""
    with Load(steady(), 30) as load:
        began = time.monotonic()
        done = cdk("destroy", "--all", "--force", "--app", str(apps[LARGE]))
        recovery = time.monotonic() - began
        assert done.returncode == 0, done.stderr[-3000:]
    figures = load.account("destroy under load", recovery)
    assert set(figures.refused) <= {"ValidationError"}
    assert not figures.failed
    assert figures.refused.total() > 0
    assert_nothing_is_deployed()
    measured(figures)
