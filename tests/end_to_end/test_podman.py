"""An endpoint hosted in tabular's image, built by Podman from its Dockerfile: invoked, killed, taken down."""

import contextlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from containers.tabular.features import FEATURES, MODEL_FILE
from local_aws.account import ACCOUNT_ID, REGION, ROOT, LocalAccount
from local_aws.podman import base_image, engine
from local_aws.podman.state import HOSTING, owner
from tests.local_account import endpoint_status, inference, replica_pids, running_account, runtime, wait_until
from tools import tiny_models

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
ENDPOINT, VARIANT, BUCKET = "in-podman", "AllTraffic", "podman-models"
TAG = "tabular-test"
URI = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/assets:{TAG}"
LARGE = "ml.c6i.large"
CACHE = ROOT / ".cache"
ROW = ",".join("1" for _ in FEATURES)


def absent() -> str:
    """Why no image can be built here; empty where one can. Nothing is installed or made to find out."""
    try:
        podman = engine.require(CACHE)
    except engine.EngineError as error:
        return f"{error}; a test installs no engine"
    if base_image.in_store(podman) is None:
        return "there is no base image: scripts/images pulls or makes one"
    return ""


@pytest.fixture(scope="module")
def podman() -> engine.Podman:
    if reason := absent():
        pytest.skip(reason)
    return engine.require(CACHE)


@pytest.fixture(scope="module")
def account(podman: engine.Podman, state: Path) -> Iterator[LocalAccount]:  # noqa: ARG001 - skips where Podman is missing
    with running_account(state, INFERENCE_LOCAL_ENGINE="podman") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def endpoint(account: LocalAccount) -> None:
    """Two replicas of the image that the CDK's docker command has built and pushed."""
    docker = account.environment()["CDK_DOCKER"]
    boto3.client("ecr").create_repository(repositoryName="assets")
    for arguments in (
        ["build", "--tag", TAG, "--file", "tabular/Dockerfile", "--platform", "linux/amd64", "containers"],
        ["tag", TAG, URI],
        ["push", URI],
    ):
        subprocess.run([docker, *arguments], cwd=ROOT, check=True, timeout=280, capture_output=True)
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    for region, model in tiny_models.churn_models(("CA", "NY")).items():
        s3.put_object(Bucket=BUCKET, Key=f"models/{region}.tar.gz", Body=packed(model))
    sagemaker.create_model(
        ModelName="churn",
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/any",
        PrimaryContainer={"Image": URI, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"},
    )
    variant: Any = {"VariantName": VARIANT, "ModelName": "churn", "InstanceType": LARGE, "InitialInstanceCount": 2}
    sagemaker.create_endpoint_config(EndpointConfigName="churn", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="churn")
    wait_until(lambda: described()["EndpointStatus"] != "Creating", 120, "the endpoint's start")
    assert described()["EndpointStatus"] == "InService", described()["FailureReason"]


def described() -> Any:
    return boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)


def packed(model: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo(MODEL_FILE)
        member.size = len(model)
        tar.addfile(member, io.BytesIO(model))
    return content.getvalue()


def invoke(region: str = "CA", body: str = ROW) -> str:
    answer = runtime().invoke_endpoint(
        EndpointName=ENDPOINT, TargetModel=f"{region}.tar.gz", ContentType="text/csv", Accept="text/csv", Body=body
    )
    text: str = answer["Body"].read().decode()
    return text


def containers_of(podman: engine.Podman, state: Path) -> list[str]:
    """Ids of what the account's hosting process runs."""
    label = "=".join(owner(HOSTING, state))
    return podman.call("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").split()


def test_models_are_loaded_into_the_container_and_answer() -> None:
    assert {0 < float(invoke(region)) < 1 for region in ("CA", "NY")} == {True}


def test_a_bad_request_is_the_clients_error() -> None:
    with pytest.raises(ClientError, match=r"Received client error \(400\)"):
        invoke(body="no,number")


def test_replicas_are_another_user_without_a_single_right(podman: engine.Podman, state: Path) -> None:
    pids = replica_pids(ENDPOINT, VARIANT)
    assert len(pids) == len(containers_of(podman, state)) == 2
    for pid in pids:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"


def test_what_containers_print_is_in_the_endpoints_log_group() -> None:
    logs = boto3.client("logs")

    def printed() -> bool:
        events = logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{ENDPOINT}")["events"]
        return any("multi-model server" in event["message"] for event in events)

    wait_until(printed, 20, "the containers' output in CloudWatch")


def test_a_killed_container_is_replaced_and_removed(podman: engine.Podman, state: Path) -> None:
    before = replica_pids(ENDPOINT, VARIANT)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: before[0] not in replica_pids(ENDPOINT, VARIANT), 20, "the loss of the replica")
    wait_until(lambda: len(replica_pids(ENDPOINT, VARIANT)) == 2, 60, "another replica")
    assert 0 < float(invoke()) < 1
    wait_until(lambda: len(containers_of(podman, state)) == 2, 20, "the removal of the dead container")
    (variant,) = (found for status in endpoint_status() for found in status["variants"])
    assert "was killed: the kernel ended it, as it does with a container that needs more than" in variant["note"]


def test_containers_of_a_killed_hosting_process_go_before_it_starts_others(podman: engine.Podman, state: Path) -> None:
    before = set(containers_of(podman, state))
    (hosting,) = (
        record["pid"] for record in json.loads((state / "processes.json").read_text()) if record["name"] == "hosting"
    )
    os.kill(hosting, signal.SIGKILL)
    wait_until(lambda: not before & set(containers_of(podman, state)), 60, "the removal of the orphans")
    wait_until(lambda: ready() == 2, 120, "the endpoint's return")
    assert 0 < float(invoke()) < 1


def ready() -> int:
    with contextlib.suppress(httpx.HTTPError):
        return len(replica_pids(ENDPOINT, VARIANT))
    return 0


def test_nothing_is_left_of_an_account_whose_supervisor_was_killed(
    account: LocalAccount, podman: engine.Podman, state: Path
) -> None:
    assert containers_of(podman, state)
    os.kill(account.supervisor_pid, signal.SIGKILL)
    assert inference(state, "local", "down").returncode == 0
    assert containers_of(podman, state) == []
