"""encoder through the local account: the real CDK command line, builds, replicas and clients, in this order."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
import httpx
import psutil
import pytest
import yaml
from botocore.exceptions import ClientError

from commands.demo.encoder import AMAZON, QUESTION
from load_tests.signed_requests import SignedRequests
from local_aws.account import LocalAccount
from tests.local_account import (
    assert_every_metric_on_the_dashboards_was_measured,
    assert_nothing_is_deployed,
    bring_up,
    deploy,
    destroy,
    endpoint_status,
    inference,
    replica_pids,
    runtime,
    wait_until,
)
from tests.processors import needs_vnni

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900), needs_vnni]
# A minute of baking passes in a second.
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
ENDPOINT = "e2e-encoder-demo"
BODY = json.dumps({"question": QUESTION, "context": AMAZON})


def deployment_file(folder: Path, **recipe: Any) -> Path:
    path = folder / "e2e.yaml"
    model = {"source": {"kind": "demo"}, "max_seq_length": 320, "doc_stride": 96, **recipe}
    variants = {name: {"precision": name.lower(), "instance_type": "ml.c6i.2xlarge"} for name in ("FP32", "INT8")}
    # The requests that a killed replica fails must not take the update after it back.
    alarms = {"p99_model_latency_ms": 20000, "server_errors": 1000}
    endpoints = {"demo": {"model": "minilm_demo", "variants": variants, "alarms": alarms}}
    bert = {"models": {"minilm_demo": model}, "endpoints": endpoints}
    path.write_text(yaml.safe_dump({"environment": "e2e", "workloads": {"encoder": {"kind": "encoder", **bert}}}))
    return path


def invoke(body: str | bytes = BODY, **members: str) -> dict[str, Any]:
    arguments = {"EndpointName": ENDPOINT, "ContentType": "application/json", **members}
    answer: dict[str, Any] = runtime().invoke_endpoint(Body=body, **arguments)
    return answer


def builds() -> list[str]:
    client = boto3.client("codebuild")
    return [
        b
        for project in client.list_projects()["projects"]
        for b in client.list_builds_for_project(projectName=project)["ids"]
    ]


class Load:
    """Invokes on a thread, with a pause that leaves the processors to what goes on beside, and keeps every failure."""

    def __init__(self, variant: str) -> None:
        self.answered, self.failures = 0, list[str]()
        self._variant, self._stop = variant, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        client = runtime()
        while not self._stop.wait(0.05):
            try:
                answer = client.invoke_endpoint(
                    EndpointName=ENDPOINT, TargetVariant=self._variant, ContentType="application/json", Body=BODY
                )
                answer["Body"].read()
                self.answered += 1
            except ClientError as error:
                self.failures.append(str(error))


@pytest.fixture(scope="module", autouse=True)
def deployed(account: LocalAccount, folder: Path) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    bring_up(deployment_file(folder))
    yield


@pytest.mark.parametrize("variant", ["FP32", "INT8"])
def test_both_variants_answer_the_question_about_the_amazon(variant: str) -> None:
    answer = invoke(TargetVariant=variant)
    assert answer["InvokedProductionVariant"] == variant
    assert answer["CustomAttributes"] == f"precision={variant.lower()}"
    found = json.loads(answer["Body"].read())
    assert found["answer"] in ("Amazonia", "Amazonia or the Amazon Jungle", "the Amazon Jungle", "Amazon Jungle")
    assert AMAZON[found["start"] : found["end"]] == found["answer"]


def test_unmodified_boto3_and_its_waiter_work() -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT)
    described = sagemaker.describe_endpoint(EndpointName=ENDPOINT)
    assert described["EndpointStatus"] == "InService"
    assert {v["VariantName"]: v["CurrentInstanceCount"] for v in described["ProductionVariants"]} == {
        "FP32": 1,
        "INT8": 1,
    }
    listed = sagemaker.list_endpoints(NameContains="encoder", StatusEquals="InService")["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in listed] == [ENDPOINT]
    assert sagemaker.list_models(MaxResults=1)["NextToken"]


@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS CLI is not installed on this machine")
def test_the_aws_cli_works(tmp_path: Path) -> None:
    def aws(*arguments: str) -> str:
        return subprocess.run(["aws", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout

    body, answer = tmp_path / "body.json", tmp_path / "answer.json"
    body.write_text(BODY)
    aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", ENDPOINT, "--content-type", "application/json",
        "--body", f"fileb://{body}", str(answer),
    )  # fmt: skip
    assert "Amazon" in json.loads(answer.read_text())["answer"]
    assert ENDPOINT in aws("sagemaker", "list-endpoints")
    stack = boto3.client("cloudformation").describe_stacks(StackName="E2e-Encoder")["Stacks"][0]
    commands = [each["OutputValue"] for each in stack["Outputs"] if "Invoke" in each["OutputKey"]]
    assert commands
    for command in commands:
        printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True).stdout
        assert '"answer"' in printed
    assert "E2e-Encoder" in aws("cloudformation", "describe-stacks")


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"hello", 400, "not JSON"),
        (b'{"question": 1, "context": "x"}', 400, "Expected `str`"),
        (b'{"question": "", "context": "x"}', 400, "question is empty"),
        (json.dumps({"question": "q", "context": "word " * 50_000}).encode(), 400, "this item has 250001 characters"),
    ],
)
def test_a_clients_mistake_is_a_model_error_with_the_containers_words(body: bytes, status: int, part: str) -> None:
    with pytest.raises(ClientError) as raised:
        invoke(body)
    response: Any = raised.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert part in response["OriginalMessage"]


@pytest.mark.parametrize(
    ("members", "body", "part"),
    [
        ({"TargetVariant": "nope"}, b"{}", "Variant nope was not found"),
        ({"EndpointName": "nope"}, b"{}", "Endpoint nope of account"),
        ({}, b"a" * 7 * 2**20, "Member must have length less than or equal to"),
        ({"TargetModel": "x.tar.gz"}, b"{}", "not a multi-model endpoint"),
    ],
)
def test_the_platform_refuses_what_sagemaker_refuses(members: dict[str, str], body: bytes, part: str) -> None:
    with pytest.raises(ClientError, match=part) as raised:
        invoke(body, **members)
    assert raised.value.response["Error"]["Code"] == "ValidationError"


def test_odd_text_is_answered() -> None:
    text = "who \0 \U0001f600 lives in Rome? \u202e It is C\u00e9cile."
    assert json.loads(invoke(json.dumps({"question": text, "context": text}))["Body"].read())["answer"]


def test_a_slow_client_holds_up_nobody() -> None:
    url = urlparse(os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
    assert url.hostname is not None
    path = f"/endpoints/{ENDPOINT}/invocations"
    (signed,) = SignedRequests(os.environ).auth_flow(httpx.Request("POST", url.geturl() + path, content=BODY))
    with contextlib.closing(http.client.HTTPConnection(url.hostname, url.port)) as slow:
        slow.putrequest("POST", path, skip_host=True)
        for name, value in signed.headers.items():
            slow.putheader(name, value)
        slow.endheaders(BODY[:10].encode())
        assert invoke(TargetVariant="INT8")["Body"].read()
        slow.send(BODY[10:].encode())
        assert slow.getresponse().status == 200


def test_every_metric_on_the_dashboards_was_measured() -> None:
    assert_every_metric_on_the_dashboards_was_measured()


def test_deploying_again_unchanged_builds_nothing(folder: Path) -> None:
    before = builds()
    assert deploy(deployment_file(folder)).returncode == 0
    assert builds() == before


def test_a_killed_replica_comes_back_under_load() -> None:
    (victim,) = replica_pids(ENDPOINT, "INT8")
    with Load("INT8") as load:
        wait_until(lambda: load.answered > 5, 30, "load")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: replica_pids(ENDPOINT, "INT8") not in ([], [victim]), 60, "the restart of the replica")
        answered = load.answered
        wait_until(lambda: load.answered > answered + 5, 30, "answers of the new replica")
    # The only replica was killed, so some requests must fail: each as an error that says so.
    assert all("ready" in failure or "container" in failure for failure in load.failures)
    (variant,) = [v for e in endpoint_status() for v in e["variants"] if v["name"] == "INT8"]
    assert variant["restarts"] == 1
    assert "died" in variant["note"]
    assert "a replacement was started" in variant["note"]


def test_a_changed_recipe_is_rebuilt_and_replaces_the_model_without_a_failed_request(folder: Path) -> None:
    before, config = builds(), boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
    with Load("INT8") as load:
        done = deploy(deployment_file(folder, calibration_samples=24))
    assert done.returncode == 0, done.stdout[-3000:]
    assert load.failures == []
    assert load.answered > 0
    assert len(builds()) == len(before) + 1
    described = boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)
    assert described["EndpointConfigName"] != config
    assert len(boto3.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]) == 1, "the old one is cleaned up"


def test_a_failing_build_rolls_back_and_says_why_while_the_endpoint_serves_on(folder: Path) -> None:
    with Load("INT8") as load:
        done = deploy(deployment_file(folder, source={"kind": "folder", "path": "/nowhere/model"}))
    assert done.returncode != 0
    assert "it has no config.json; set a save_pretrained folder" in " ".join((done.stdout + done.stderr).split())
    assert load.failures == []
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName="E2e-Encoder")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert invoke(TargetVariant="INT8")["Body"].read()


def test_a_model_that_fails_the_accuracy_gate_is_never_deployed(folder: Path) -> None:
    # ONNX Runtime's INT8 keeps 99.2 % of F1 on the project's questions, and this gate allows no loss.
    strict = deployment_file(folder, engine="onnxruntime", gate={"min_f1_ratio": 1.0})
    config = boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
    with Load("INT8") as load:
        done = deploy(strict)
    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    assert re.search(
        r"accuracy gate failed: F1 is [\d.]+ before quantization and [\d.]+ after, the limit is [\d.]+", told
    )
    assert load.failures == []
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName="E2e-Encoder")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"] == config


@pytest.mark.parametrize("name", ["hosting", "emulator"])
def test_a_killed_process_is_started_again_with_its_state_and_reported(state: Path, name: str) -> None:
    (pid,) = [row["pid"] for row in json.loads((state / "processes.json").read_text()) if row["name"] == name]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        return inference(state, "local", "status").returncode == 0

    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 10, "its end")
    wait_until(back, 60, f"the recovery of {name}")
    told = inference(state, "local", "status").stdout
    assert "ended by signal 9" in told
    assert invoke(TargetVariant="FP32")["Body"].read()
    stacks = boto3.client("cloudformation").describe_stacks()["Stacks"]
    assert "E2e-Encoder" in {stack["StackName"] for stack in stacks}


def test_a_second_up_finds_the_running_account(account: LocalAccount, state: Path) -> None:
    done = inference(state, "local", "up")
    assert done.returncode == 0
    assert account.endpoint_url in done.stdout


def test_destroy_leaves_nothing_of_the_deployment(folder: Path) -> None:
    done = destroy(deployment_file(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_nothing_is_deployed()
    buckets = [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    assert all(name.startswith("cdk-") for name in buckets)


def test_down_leaves_no_process_and_no_file(account: LocalAccount, state: Path) -> None:
    marked = [p for p in psutil.process_iter() if p.pid == account.supervisor_pid]
    family = [child for process in marked for child in process.children(recursive=True)]
    assert family
    assert inference(state, "local", "down").returncode == 0
    assert not state.exists()
    _, left = psutil.wait_procs([*marked, *family], timeout=10)
    assert left == []
