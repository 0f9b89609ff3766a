"""Data capture through the APIs: what an endpoint's configuration asks for lies in S3."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.hosting import data_capture
from tests.unit.local_aws.hosting_account import (
    DEADLINE_SECONDS,
    IMAGE,
    ROLE,
    HostingAccount,
    error_of,
    running,
    variant,
)

CONFIG = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://b/capture/",
    "KmsKeyId": "key",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"], "CsvContentTypes": ["text/csv"]},
}


class FakeS3:
    """A bucket in memory that keeps the arguments of each upload, and rejects the next `refusals` uploads."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.arguments: list[dict[str, Any]] = []
        self.refusals = 0

    def put_object(self, Bucket: str, Key: str, Body: bytes, **arguments: Any) -> None:  # noqa: N803 - boto3's names
        assert Bucket == "b"
        if self.refusals:
            self.refusals -= 1
            raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": "gone"}}, "PutObject")
        self.objects[Key] = Body
        self.arguments.append(arguments)

    def events(self, count: int) -> list[dict[str, Any]]:
        """Wait for this many captured events, and return all of them."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            lines = [line for body in list(self.objects.values()) for line in body.splitlines()]
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            assert time.monotonic() < deadline, f"{len(lines)} of {count} events"
            time.sleep(0.05)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3()
    monkeypatch.setattr(data_capture, "s3_client", lambda: fake)
    monkeypatch.setattr(data_capture, "WRITE_SECONDS", 0.1)
    return fake


@pytest.fixture
def account(tmp_path: Path, s3: FakeS3) -> Iterator[HostingAccount]:
    assert s3.objects == {}
    with running(tmp_path) as served:
        yield served


def deploy(account: HostingAccount, **changes: Any) -> dict[str, Any]:
    sagemaker = account.sagemaker
    sagemaker.create_model(ModelName="e", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    config = {name: value for name, value in {**CONFIG, **changes}.items() if value is not None}
    sagemaker.create_endpoint_config(
        EndpointConfigName="e", ProductionVariants=[variant(ModelName="e")], DataCaptureConfig=config
    )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="e")
    return account.settled()


def invoke(account: HostingAccount, **more: Any) -> None:
    account.runtime.invoke_endpoint(**{"EndpointName": "e", "Body": b"x", **more})


def test_requests_and_responses_lie_in_s3_by_endpoint_variant_and_hour(account: HostingAccount, s3: FakeS3) -> None:
    described = deploy(account)
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://b/capture/", "KmsKeyId": "key",
    }  # fmt: skip
    invoke(account, ContentType="application/json", Accept="text/csv", InferenceId="i", CustomAttributes="c")
    (event,) = s3.events(1)
    assert event["captureData"]["endpointInput"] == {
        "observedContentType": "application/json", "mode": "INPUT", "data": "x", "encoding": "JSON",
    }  # fmt: skip
    assert event["captureData"]["endpointOutput"] == {
        "observedContentType": "text/csv", "mode": "OUTPUT", "data": "x", "encoding": "CSV",
    }  # fmt: skip
    assert event["eventMetadata"].items() >= {"inferenceId": "i", "customAttributes": ["c"]}.items()
    (key,) = s3.objects
    assert key.startswith("capture/e/v/2")
    assert key.endswith(".jsonl")
    assert len(key.split("/")) == 8
    assert s3.arguments == [{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"}]


def test_content_types_that_are_not_named_are_captured_in_base64(account: HostingAccount, s3: FakeS3) -> None:
    deploy(account, CaptureContentTypeHeader=None, EnableCapture=None, CaptureOptions=[{"CaptureMode": "Output"}])
    invoke(account, Body=b"\xff", Accept="text/csv")
    (event,) = s3.events(1)
    assert list(event["captureData"]) == ["endpointOutput"]
    output = event["captureData"]["endpointOutput"]
    assert (output["encoding"], base64.b64decode(output["data"])) == ("BASE64", b"\xff")


@pytest.mark.parametrize("changes", [{"EnableCapture": False}, {"InitialSamplingPercentage": 0}])
def test_nothing_is_captured_that_the_configuration_leaves_out(
    account: HostingAccount, s3: FakeS3, changes: dict[str, Any]
) -> None:
    deploy(account, **changes)
    for _ in range(20):
        invoke(account)
    time.sleep(0.5)
    assert s3.objects == {}


def test_a_bucket_that_is_gone_does_not_end_the_capture(account: HostingAccount, s3: FakeS3) -> None:
    deploy(account)
    s3.refusals = 1
    invoke(account)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while s3.refusals:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    invoke(account)
    assert len(s3.events(1)) == 1


def test_an_update_to_a_configuration_without_capture_ends_it(account: HostingAccount, s3: FakeS3) -> None:
    deploy(account)
    account.sagemaker.create_endpoint_config(EndpointConfigName="f", ProductionVariants=[variant(ModelName="e")])
    account.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="f")
    assert "DataCaptureConfig" not in account.settled()
    invoke(account)
    time.sleep(0.3)
    assert s3.objects == {}


def test_a_destination_that_is_not_s3_is_refused(account: HostingAccount) -> None:
    code, message = error_of(lambda: deploy(account, DestinationS3Uri="https://example.com/x"))
    assert (code, "not a location in S3" in message) == ("ValidationException", True)
