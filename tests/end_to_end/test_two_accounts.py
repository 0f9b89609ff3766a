"""dev and prod in two local accounts at once: nothing clashes, one message for a fault, and what destroying leaves."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from local_aws.account import ACCOUNT_ID, REGION, ROOT, LocalAccount
from tests import by_kind
from tests.local_account import UNVALIDATED, inference, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]
ROW = "71,37,129.4,104,231.3,96,201.6,95,8.9,3,2,0,0,1,0,1"
RECIPE = {"source": {"kind": "generated", "customers": 1530, "seed": 3}}


@dataclass(frozen=True)
class Place:
    """A local account, and the deployment that goes there."""

    account: LocalAccount
    deployment: Path

    @property
    def environment(self) -> str:
        return self.deployment.stem

    def client(self, service: str) -> Any:
        key = self.account.client_environment()
        return botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.account.runtime_url if service == "sagemaker-runtime" else self.account.endpoint_url,
        )

    def cdk(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        folder = ["--output", str(self.deployment.parent / f"{self.environment}.out")]
        return subprocess.run(
            ["cdk", *arguments, "--context", f"deployment={self.deployment}", *folder, "--no-notices"],
            cwd=ROOT, env={**os.environ, **self.account.environment(), **UNVALIDATED}, capture_output=True, text=True,
            timeout=500, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def deploy(self) -> "subprocess.CompletedProcess[str]":
        done = self.cdk("bootstrap", f"aws://{ACCOUNT_ID}/{REGION}")
        if done.returncode:
            return done
        return self.cdk("deploy", "--all", "--require-approval", "never", "--progress", "events")

    def remains(self) -> "subprocess.CompletedProcess[str]":
        return inference(Path(self.account.state), "leftovers", "--deployment", str(self.deployment))


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    folder = tmp_path_factory.mktemp("two")
    churn = {"recipe": RECIPE, "endpoints": {"churn": {"instance_type": "ml.c5.xlarge"}}}
    prod = yaml.safe_load(by_kind.file("prod-local").read_text())
    prod["workloads"]["tabular"]["recipe"] = RECIPE
    files = (
        write(folder / "dev.yaml", {"environment": "dev", "workloads": {"tabular": {"kind": "tabular", **churn}}}),
        write(folder / "prod.yaml", prod),
    )
    states = [folder / f"{path.stem}-state" for path in files]
    try:
        with ThreadPoolExecutor(2) as pool:
            for done in pool.map(lambda state: inference(state, "local", "up"), states):
                assert done.returncode == 0, done.stderr
        accounts = [LocalAccount.read(state) for state in states]
        made = [Place(account, path) for account, path in zip(accounts, files, strict=True) if account is not None]
        with ThreadPoolExecutor(2) as pool:
            for done in pool.map(Place.deploy, made):
                assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        dev, second = made
        yield dev, second
    finally:
        for state in states:
            inference(state, "local", "down")


def test_both_are_deployed_at_once_and_each_account_has_its_own_only(places: tuple[Place, Place]) -> None:
    ports = [port for place in places for port in (place.account.port, place.account.runtime_port)]
    assert len(set(ports)) == 4
    for place in places:
        endpoints = place.client("sagemaker").list_endpoints()["Endpoints"]
        assert [(each["EndpointName"], each["EndpointStatus"]) for each in endpoints] == [
            (f"{place.environment}-tabular-churn", "InService")
        ]


def test_both_answer_and_neither_knows_the_others_endpoint(places: tuple[Place, Place]) -> None:
    answers = []
    for place in places:
        runtime = place.client("sagemaker-runtime")
        request = {"ContentType": "text/csv", "Body": ROW, "TargetModel": "churn-xgb-CA.tar.gz"}
        answer = runtime.invoke_endpoint(EndpointName=f"{place.environment}-tabular-churn", **request)
        answers.append(float(answer["Body"].read()))
        other = "prod" if place.environment == "dev" else "dev"
        with pytest.raises(runtime.exceptions.ClientError, match="not found"):
            runtime.invoke_endpoint(EndpointName=f"{other}-tabular-churn", **request)
    assert answers[0] == answers[1]


def test_two_alarms_of_an_endpoint_are_one_message(places: tuple[Place, Place]) -> None:
    _, prod = places
    cloudwatch, sns, sqs = prod.client("cloudwatch"), prod.client("sns"), prod.client("sqs")
    (topic,) = (each["TopicArn"] for each in sns.list_topics()["Topics"] if "Alerts" in each["TopicArn"])
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:told")
    name = "prod-tabular-churn"
    for kind in ("latency", "loading-wait"):
        cloudwatch.set_alarm_state(AlarmName=f"{name}-AllTraffic-{kind}", StateValue="ALARM", StateReason="tried")
    described = cloudwatch.describe_alarms(AlarmNames=[f"{name}-any"], AlarmTypes=["CompositeAlarm"])
    assert described["CompositeAlarms"][0]["StateValue"] == "ALARM"
    received: list[Any] = []

    def arrived() -> bool:
        received.extend(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))
        return bool(received)

    wait_until(arrived, 30, "the message")
    assert len(received) == 1 and f"{name}-any" in received[0]["Body"]
    assert not sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages")
    sqs.delete_queue(QueueUrl=queue)


def test_what_stands_is_listed_and_should_not_be_there(places: tuple[Place, Place]) -> None:
    done = places[0].remains()
    assert done.returncode == 1
    assert "dev-tabular-churn" in done.stdout and "are unexpected" in done.stderr


def test_destroying_dev_leaves_its_key_for_seven_days_and_the_bootstrap_and_prod_untouched(
    places: tuple[Place, Place],
) -> None:
    dev, prod = places
    done = dev.cdk("destroy", "--all", "--force")
    assert done.returncode == 0, done.stderr[-2000:]
    left = dev.remains()
    assert left.returncode == 0, left.stdout + left.stderr
    assert "AWS deletes it on" in left.stdout and "CDKToolkit" in left.stdout
    assert "dev-" not in left.stdout.lower()
    assert [each["EndpointStatus"] for each in prod.client("sagemaker").list_endpoints()["Endpoints"]] == ["InService"]


def test_destroying_prod_keeps_its_data_with_the_key_and_says_so(places: tuple[Place, Place]) -> None:
    _, prod = places
    done = prod.cdk("destroy", "--all", "--force")
    assert done.returncode == 0, done.stderr[-2000:]
    left = prod.remains()
    assert left.returncode == 0, left.stdout + left.stderr
    assert left.stdout.count("retain_data keeps") == 3, "two buckets and their key"
    (bucket,) = (
        each["Name"] for each in prod.client("s3").list_buckets()["Buckets"] if "foundation-artifacts" in each["Name"]
    )
    keys = [each["Key"] for each in prod.client("s3").list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(key.endswith("churn-xgb-CA.tar.gz") for key in keys)
