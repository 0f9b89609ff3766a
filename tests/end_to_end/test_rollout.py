"""Updates of a guarded endpoint under live load, in this order: a good version, a failing, a slow one; and a shadow."""

import contextlib
import io
import json
import os
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from aws_cdk import App, DefaultStackSynthesizer, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from botocore.exceptions import ClientError

from load_tests.signed_requests import SignedRequests
from local_aws.account import ACCOUNT_ID, REGION, LocalAccount
from local_aws.hosting.images import Image
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps
from stacks.resources import SharedResources
from stacks.settings.endpoint import SingleVariantEndpoint
from stacks.settings.guardrails import Guardrails
from stacks.settings.hosting import EndpointAlarms
from tests.local_account import replica_pids, runtime, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240)]
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
ENDPOINT, VARIANT, STACK, BUCKET = "rollout", "AllTraffic", "Rollout", "rollout-models"
INSTANCES, LOADERS = 4, 4
SHORT = Guardrails.model_validate({"traffic": "canary", "step": 1, "bake_seconds": 240})
# Long enough for alarms on a busy machine; an update that they take back waits no longer than they need.
CANARY = Guardrails.model_validate({"traffic": "canary", "step": 1, "bake_seconds": 900})
ROLLING = Guardrails.model_validate({"traffic": "rolling", "step": "50%", "bake_seconds": 900})
SERVER = """
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

name = Path(os.environ["SAGEMAKER_BASE_DIR"], "model/name.txt").read_text()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        invoked = self.path == "/invocations"
        time.sleep(1.3 if invoked and name == "slow" else 0)
        self.send_response(500 if invoked and name == "failing" else 200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name.encode())

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def archive(name: str) -> bytes:
    """A model.tar.gz whose one file is the name that the server answers with."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("name.txt")
        member.size = len(name)
        tar.addfile(member, io.BytesIO(name.encode()))
    return content.getvalue()


def template(model: str, guardrails: Guardrails, folder: Path) -> str:
    """A stack of the endpoint as every workload has it, serving a model."""
    app = App(outdir=str(folder))
    stack = Stack(app, STACK, synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=False))
    container = sagemaker.CfnModel.ContainerDefinitionProperty(
        image=f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/tiny:1",
        model_data_url=f"s3://{BUCKET}/{model}/model.tar.gz",
    )
    made = sagemaker.CfnModel(
        stack, "Model", execution_role_arn=f"arn:aws:iam::{ACCOUNT_ID}:role/any", primary_container=container
    )
    bucket = s3.Bucket.from_bucket_name(stack, "Artifacts", BUCKET)
    RealtimeEndpoint(
        stack,
        "Endpoint",
        endpoint_name=ENDPOINT,
        variants=[VariantProps(name=VARIANT, model=made, instance_type="ml.c6i.large", instance_count=INSTANCES)],
        settings=SingleVariantEndpoint(
            instance_type="ml.c6i.large",
            instance_count=INSTANCES,
            alarms=EndpointAlarms(p99_model_latency_ms=1000, server_errors=20),
            guardrails=guardrails,
        ),
        resources=SharedResources(
            artifacts=bucket,
            access_logs=bucket,
            key=kms.Key.from_key_arn(
                stack, "Key", f"arn:aws:kms:{REGION}:{ACCOUNT_ID}:key/00000000-0000-0000-0000-000000000000"
            ),
            alerts=sns.Topic.from_topic_arn(stack, "Alerts", f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:any"),
            configuration_check="",
        ),
    )
    written: dict[str, Any] = app.synth().get_stack_by_name(STACK).template
    return json.dumps(written)


@dataclass(frozen=True)
class Answer:
    """One request's: when it began (monotonic seconds), and the version that answered it or the error."""

    began: float
    version: str
    error: str = ""


class Load:
    """Threads that ask without a pause until they are stopped."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(LOADERS)]

    def _ask(self) -> None:
        client = runtime()
        while not self._stopped.wait(0.01):
            began = time.monotonic()
            try:
                body = client.invoke_endpoint(EndpointName=ENDPOINT, Body=b"{}")["Body"].read()
                self.answers.append(Answer(began, body.decode()))
            except ClientError as error:
                self.answers.append(Answer(began, str(error.response.get("OriginalMessage")), str(error)))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def versions_from_now_on(self) -> set[str]:
        """Who answers the next requests."""
        now = time.monotonic()
        wait_until(lambda: self.shares(now, now + 60).total() >= 20, 30, "answers")
        return set(self.shares(now, now + 60))

    def shares(self, begin: float, end: float) -> Counter[str]:
        """Requests by the version that took them, of those that began in that time."""
        return Counter(answer.version for answer in self.answers if begin <= answer.began < end)


def update(model: str, guardrails: Guardrails, folder: Path) -> tuple[str, list[tuple[float, str]]]:
    """Updates the stack; gives how that ended, and the stages of the endpoint with the time each was first seen."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.update_stack(StackName=STACK, TemplateBody=template(model, guardrails, folder / model))
    stages: list[tuple[float, str]] = []

    def ended() -> bool:
        described = endpoint()
        message = ""
        if pending := described.get("PendingDeploymentSummary"):
            message = pending["ProductionVariants"][0]["VariantStatus"][0]["StatusMessage"]
        stage = f"{described['EndpointStatus']} {message}".strip()
        if not stages or stages[-1][1] != stage:
            stages.append((time.monotonic(), stage))
        return bool(stack_status().endswith(("UPDATE_COMPLETE", "ROLLBACK_COMPLETE", "FAILED")))

    wait_until(ended, 90, f"the update to {model}")
    return stack_status(), stages


def stack_status() -> str:
    return str(boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"])


def endpoint() -> Any:
    return boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)


def failure() -> str:
    events = boto3.client("cloudformation").describe_stack_events(StackName=STACK)["StackEvents"]
    return str(next(e["ResourceStatusReason"] for e in events if e["ResourceStatus"] == "UPDATE_FAILED"))


def alarms() -> set[str]:
    return {alarm["StateValue"] for alarm in boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="module", autouse=True)
def deployed(account: LocalAccount, state: Path, folder: Path) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    """The endpoint with the model `first`."""
    (folder / "server.py").write_text(SERVER)
    Image(str(folder), "/", (sys.executable, str(folder / "server.py")), {}, sys.prefix).save(state, "tiny:1")
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    for name in ("first", "second", "failing", "slow"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=archive(name))
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(StackName=STACK, TemplateBody=template("first", SHORT, folder / "first"))
    wait_until(lambda: stack_status() == "CREATE_COMPLETE", 60, "the deployment")
    yield
    cloudformation.delete_stack(StackName=STACK)
    with contextlib.suppress(ClientError):
        wait_until(lambda: stack_status() == "DELETE_COMPLETE", 60, "the end of the stack")


def test_a_good_version_goes_out_by_canary_without_a_failed_request(folder: Path) -> None:
    with Load() as load:
        status, stages = update("second", SHORT, folder)
        after = load.versions_from_now_on()
    assert status == "UPDATE_COMPLETE"
    seen = [stage for _, stage in stages]
    assert "Updating 25% of the requests" in seen
    assert seen.index("Updating 25% of the requests") < seen.index("Updating 100% of the requests")
    assert [answer.error for answer in load.answers if answer.error] == []
    times = {stage: began for began, stage in stages}
    canary = load.shares(times["Updating 25% of the requests"], times["Updating 100% of the requests"] - 1)
    assert 0.1 < canary["second"] / canary.total() < 0.4, canary
    assert after == {"second"}
    assert len(replica_pids(ENDPOINT, VARIANT)) == INSTANCES


@pytest.mark.parametrize(
    ("model", "alarm", "guardrails"), [("failing", "server-errors", CANARY), ("slow", "latency", ROLLING)]
)
def test_a_version_that_sets_off_an_alarm_is_rolled_back_under_load_and_the_deployment_says_so(
    folder: Path, model: str, alarm: str, guardrails: Guardrails
) -> None:
    before = endpoint()["EndpointConfigName"]
    with Load() as load:
        status, stages = update(model, guardrails, folder)
        after = load.versions_from_now_on()
    assert status == "UPDATE_ROLLBACK_COMPLETE", stages
    assert f"{ENDPOINT}-{VARIANT}-{alarm}" in failure()
    described = endpoint()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", before)
    assert "went to ALARM" in described["FailureReason"]
    assert not any("100%" in stage for _, stage in stages)
    by_version = Counter((answer.version, bool(answer.error)) for answer in load.answers)
    assert set(by_version) == {("second", False), (model, model == "failing")}, by_version
    assert after == {"second"}, "every request is the old version's again"
    assert len(replica_pids(ENDPOINT, VARIANT)) == INSTANCES
    wait_until(lambda: alarms() == {"OK"}, 30, "the alarms' end")


def test_an_update_during_which_the_hosting_process_dies_is_reported_as_failed(folder: Path, state: Path) -> None:
    before = endpoint()["EndpointConfigName"]
    cloudformation = boto3.client("cloudformation")
    cloudformation.update_stack(StackName=STACK, TemplateBody=template("first", CANARY, folder / "again"))
    wait_until(lambda: "PendingDeploymentSummary" in endpoint(), 30, "the canary")
    (pid,) = [row["pid"] for row in json.loads((state / "processes.json").read_text()) if row["name"] == "hosting"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not stack_status().endswith("IN_PROGRESS"), 60, "the end of the update")
    assert stack_status() == "UPDATE_ROLLBACK_COMPLETE"
    assert f"it serves {before} instead of " in failure()
    wait_until(lambda: endpoint()["EndpointStatus"] == "InService", 30, "the endpoint")
    assert endpoint()["EndpointConfigName"] == before


def test_tags_are_changed_in_place_and_nothing_else_is(folder: Path) -> None:
    cloudformation, client = boto3.client("cloudformation"), boto3.client("sagemaker")
    pids, served = replica_pids(ENDPOINT, VARIANT), endpoint()["EndpointConfigName"]
    document = json.loads(template("second", CANARY, folder / "tagged"))
    for tags in ({"team": "a", "stage": "one"}, {"team": "b"}):
        for resource in document["Resources"].values():
            if resource["Type"].startswith("AWS::SageMaker::"):
                resource["Properties"]["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
        cloudformation.update_stack(StackName=STACK, TemplateBody=json.dumps(document))
        wait_until(lambda: not stack_status().endswith("IN_PROGRESS"), 60, "the end of the update")
        assert stack_status() == "UPDATE_COMPLETE", failure()
        config = client.describe_endpoint_config(EndpointConfigName=served)
        model = client.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        for arn in (endpoint()["EndpointArn"], config["EndpointConfigArn"], model["ModelArn"]):
            given = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
            assert {key: value for key, value in given.items() if not key.startswith("aws:")} == tags
    assert (replica_pids(ENDPOINT, VARIANT), endpoint()["EndpointConfigName"]) == (pids, served)


def small_template(image: str) -> str:
    """An endpoint with a name of its own and nothing around it."""
    container = {"Image": image, "ModelDataUrl": f"s3://{BUCKET}/first/model.tar.gz"}
    variant = {
        "VariantName": VARIANT, "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}, "InitialInstanceCount": 1,
        "InstanceType": "ml.c6i.large", "InitialVariantWeight": 1,
    }  # fmt: skip
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/any"
    properties = {
        "Model": {"ExecutionRoleArn": role, "PrimaryContainer": container},
        "EndpointConfig": {"ProductionVariants": [variant]},
        "Endpoint": {
            "EndpointName": "small", "EndpointConfigName": {"Fn::GetAtt": ["EndpointConfig", "EndpointConfigName"]},
        },
    }  # fmt: skip
    resources = {kind: {"Type": f"AWS::SageMaker::{kind}", "Properties": each} for kind, each in properties.items()}
    return json.dumps({"Resources": resources})


def test_an_endpoint_that_did_not_start_leaves_its_name_to_the_next_deployment(folder: Path, state: Path) -> None:
    cloudformation = boto3.client("cloudformation")

    def status() -> str:
        return str(cloudformation.describe_stacks(StackName="Small")["Stacks"][0]["StackStatus"])

    (folder / "crash.py").write_text("raise SystemExit('no such model')")
    Image(str(folder), "/", (sys.executable, str(folder / "crash.py")), {}, sys.prefix).save(state, "crash:1")
    registry = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com"
    cloudformation.create_stack(StackName="Small", TemplateBody=small_template(f"{registry}/crash:1"))
    wait_until(lambda: status() == "ROLLBACK_COMPLETE", 120, "the rollback")
    with pytest.raises(ClientError, match="Could not find"):
        boto3.client("sagemaker").describe_endpoint(EndpointName="small")
    cloudformation.delete_stack(StackName="Small")
    cloudformation.create_stack(StackName="Small", TemplateBody=small_template(f"{registry}/tiny:1"))
    wait_until(lambda: status() == "CREATE_COMPLETE", 60, "the deployment")
    assert runtime().invoke_endpoint(EndpointName="small", Body=b"{}")["Body"].read() == b"first"
    cloudformation.delete_stack(StackName="Small")
    wait_until(lambda: not replica_pids("small", VARIANT), 60, "the end of the replica")


def test_a_shadow_gets_copies_of_the_requests_and_answers_nobody() -> None:
    sagemaker_client = boto3.client("sagemaker")
    served = sagemaker_client.describe_endpoint_config(EndpointConfigName=endpoint()["EndpointConfigName"])
    (production,) = served["ProductionVariants"]
    image = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/tiny:1"
    sagemaker_client.create_model(
        ModelName="candidate",
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/any",
        PrimaryContainer={"Image": image, "ModelDataUrl": f"s3://{BUCKET}/failing/model.tar.gz"},
    )
    variant: Any = {"InstanceType": "ml.c6i.large", "InitialInstanceCount": 1}
    of: Any = {"VariantName": "Served", "ModelName": production["ModelName"], "InitialVariantWeight": 2.0, **variant}
    by: Any = {"VariantName": "Shadow", "ModelName": "candidate", "InitialVariantWeight": 1.0, **variant}
    sagemaker_client.create_endpoint_config(
        EndpointConfigName="shadowed", ProductionVariants=[of], ShadowProductionVariants=[by]
    )
    sagemaker_client.create_endpoint(EndpointName="shadowed", EndpointConfigName="shadowed")
    sagemaker_client.get_waiter("endpoint_in_service").wait(EndpointName="shadowed", WaiterConfig={"Delay": 1})
    described = sagemaker_client.describe_endpoint(EndpointName="shadowed")
    assert [each["VariantName"] for each in described["ProductionVariants"]] == ["Served"]
    assert [each["VariantName"] for each in described["ShadowProductionVariants"]] == ["Shadow"]
    client = runtime()
    for _ in range(100):
        assert client.invoke_endpoint(EndpointName="shadowed", Body=b"{}")["Body"].read() == b"second"
    with pytest.raises(ClientError, match="it has: Served"):
        client.invoke_endpoint(EndpointName="shadowed", Body=b"{}", TargetVariant="Shadow")
    wait_until(lambda: published("Invocations", "Served") == 100, 30, "the production variant's metrics")
    wait_until(lambda: 25 <= published("Invocation5XXErrors", "Shadow") <= 75, 30, "the shadow's metrics")
    assert published("Invocation5XXErrors", "Served") == 0
    sagemaker_client.delete_endpoint(EndpointName="shadowed")


def published(metric: str, variant: str) -> float:
    url = f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME']}/_local/publish"
    httpx.post(url, auth=SignedRequests(os.environ), trust_env=False, timeout=30).raise_for_status()
    now = datetime.now(UTC)
    points = boto3.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[{"Name": "EndpointName", "Value": "shadowed"}, {"Name": "VariantName", "Value": variant}],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points)
