"""A real local account for tests: the real command lines, its clients, and what it holds."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dashboards import aws_only
from dashboards.body import MetricWidget, Source
from load_tests.signed_requests import SignedRequests
from local_aws.account import (
    ACCOUNT_ID,
    CACHE_VARIABLE,
    CONCURRENT_STACKS,
    OWNER_VARIABLE,
    REGION,
    ROOT,
    STATE_VARIABLE,
    LocalAccount,
    environment_variables,
)
from local_aws.dashboard import reading

# The CDK's validation of templates takes twice what their synthesis takes; tests/infrastructure has it done once.
UNVALIDATED = {"CDK_VALIDATION": "false"}
INFERENCE = [str(Path(sys.executable).parent / "inference")]


def inference(
    state: Path, *arguments: str, timeout: float = 300, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Runs the real command line; an account that it starts does not outlive the tests."""
    return subprocess.run(
        [*INFERENCE, *arguments],
        env={
            **os.environ,
            STATE_VARIABLE: str(state),
            CACHE_VARIABLE: str(ROOT / ".cache"),
            OWNER_VARIABLE: str(os.getpid()),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def cdk(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs the real CDK command line."""
    return subprocess.run(
        ["cdk", *arguments, "--no-notices"], cwd=ROOT, env={**os.environ, **UNVALIDATED}, capture_output=True,
        text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def bootstrap() -> None:
    """Prepares the running account for the CDK."""
    done = cdk("bootstrap", f"aws://{ACCOUNT_ID}/{REGION}", "--app", "")
    assert done.returncode == 0, done.stderr


def deploy(path: Path) -> "subprocess.CompletedProcess[str]":
    """Deploys every stack of a deployment file."""
    return cdk(
        "deploy", "--all", "--require-approval", "never", "--progress", "events", *CONCURRENT_STACKS,
        "--context", f"deployment={path}", "--output", str(_assembly(path)),
    )  # fmt: skip


def bring_up(path: Path) -> None:
    """Bootstraps the running account and deploys every stack of a deployment file."""
    bootstrap()
    done = deploy(path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def destroy(path: Path) -> "subprocess.CompletedProcess[str]":
    """Destroys every stack of a deployment file, by the templates of its last deployment."""
    return cdk("destroy", "--all", "--force", *CONCURRENT_STACKS, "--app", str(_assembly(path)))


def _assembly(path: Path) -> Path:
    return path.parent / "cdk.out"


def runtime() -> Any:
    """A runtime client that retries nothing."""
    return boto3.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}, read_timeout=70))


def endpoint_status() -> list[dict[str, Any]]:
    """What the hosting process tells of its endpoints and their replicas."""
    url = f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME']}/_local/status"
    answer = httpx.get(url, auth=SignedRequests(os.environ), trust_env=False, timeout=10)
    status: list[dict[str, Any]] = answer.json()
    return status


def replica_pids(endpoint: str, variant: str) -> list[int]:
    """Processes of a variant's replicas that take requests."""
    return [
        replica["pid"]
        for status in endpoint_status()
        for found in status["variants"]
        if (status["endpoint"], found["name"]) == (endpoint, variant)
        for replica in found["replicas"]
        if replica["ready"]
    ]


def assert_nothing_is_deployed() -> None:
    """Fails unless only what bootstrapping made is left in the account."""
    sagemaker = boto3.client("sagemaker")
    assert sagemaker.list_inference_components()["InferenceComponents"] == []
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert endpoint_status() == []
    stacks = {s["StackName"] for s in boto3.client("cloudformation").describe_stacks()["Stacks"]}
    assert stacks == {"CDKToolkit"}
    scalable = boto3.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    assert scalable["ScalableTargets"] == []
    alarms = boto3.client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    assert (alarms["MetricAlarms"], alarms["CompositeAlarms"]) == ([], [])
    groups = boto3.client("logs").describe_log_groups()["logGroups"]
    assert [each["logGroupName"] for each in groups] == []
    assert boto3.client("budgets").describe_budgets(AccountId=ACCOUNT_ID).get("Budgets", []) == []


def assert_every_metric_on_the_dashboards_was_measured() -> None:
    """Fails for a metric on a deployed dashboard that no endpoint sent and that is not listed as AWS's only."""
    url = f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME']}/_local/publish"
    httpx.post(url, auth=SignedRequests(os.environ), trust_env=False, timeout=30).raise_for_status()
    cloudwatch = boto3.client("cloudwatch")
    measured = {
        (metric["Namespace"], metric["MetricName"], frozenset(each["Name"] for each in metric["Dimensions"]))
        for page in cloudwatch.get_paginator("list_metrics").paginate()
        for metric in page["Metrics"]
    }
    shown = {
        (line.namespace, line.name, frozenset(name for name, _ in line.dimensions))
        for dashboard in reading.names(cloudwatch)
        for widget in reading.body(cloudwatch, dashboard).widgets
        if isinstance(widget, MetricWidget)
        for line in widget.properties.series
        if isinstance(line, Source)
    }
    assert shown
    assert [each for each in shown - measured if aws_only.reason(each[0], each[1]) is None] == []


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls with a deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)


def process_id(state: Path, name: str) -> int:
    """One of a running account's processes: `emulator` or `hosting`."""
    records = json.loads((state / "processes.json").read_text())
    return next(int(record["pid"]) for record in records if record["name"] == name)


def restart_emulator(account: LocalAccount) -> None:
    """Kills the emulator, and waits until the supervisor's next one answers."""
    state = Path(account.state)
    before = process_id(state, "emulator")
    os.kill(before, signal.SIGKILL)

    def answers() -> bool:
        try:
            return process_id(state, "emulator") != before and bool(boto3.client("sts").get_caller_identity())
        except (BotoCoreError, ClientError):
            return False

    wait_until(answers, 60, "the restart of the emulator")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module writes its deployment files."""
    return tmp_path_factory.mktemp("deployment")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local") / "state"


@contextlib.contextmanager
def running_account(state: Path, **environment: str) -> Iterator[LocalAccount]:
    """A running local account, started with that environment, and every client pointed at it."""
    done = inference(state, "local", "up", timeout=300, **environment)
    assert done.returncode == 0, done.stderr
    running = LocalAccount.read(state)
    assert running is not None
    try:
        with environment_variables(running.environment()):
            os.environ.pop("AWS_PROFILE", None)
            # It keeps the key that it has found first, and every account has another.
            boto3.setup_default_session()
            yield running
    finally:
        boto3.setup_default_session()
        inference(state, "local", "down")


@pytest.fixture(scope="module")
def account(request: pytest.FixtureRequest, state: Path) -> Iterator[LocalAccount]:
    """A running local account, started with the module's ACCOUNT_ENVIRONMENT."""
    with running_account(state, **getattr(request.module, "ACCOUNT_ENVIRONMENT", {})) as running:
        yield running
