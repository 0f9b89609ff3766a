"""What a local account is given stays out of the emulator's memory, and outlives the emulator."""

import io
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from local_aws.account import LocalAccount
from tests.local_account import process_id, restart_emulator, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
# Old data is removed once a minute of this time.
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
BODY = os.urandom(32 * 2**20)
MIB = 2**20


@pytest.fixture(autouse=True)
def running(account: LocalAccount) -> LocalAccount:
    return account


def held(account: LocalAccount) -> int:
    """Bytes of memory that no file backs."""
    status = Path(f"/proc/{process_id(Path(account.state), 'emulator')}/status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def growth(account: LocalAccount, given: Callable[[], object]) -> int:
    before = held(account)
    given()
    return held(account) - before


def test_bodies_of_objects_versions_and_parts_are_on_disk_alone(running: LocalAccount) -> None:
    s3 = boto3.client("s3")
    for bucket in ("plain", "versioned"):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="plain", Key="first", Body=BODY)

    def give() -> None:
        for number in range(3):
            s3.put_object(Bucket="plain", Key=f"{number}", Body=BODY)
            s3.put_object(Bucket="versioned", Key="same", Body=BODY[number:])
        s3.upload_fileobj(io.BytesIO(BODY), "versioned", "in parts")
        upload = s3.create_multipart_upload(Bucket="plain", Key="unfinished")["UploadId"]
        for number in (1, 2):
            s3.upload_part(Bucket="plain", Key="unfinished", UploadId=upload, PartNumber=number, Body=BODY)

    assert growth(running, give) < 3 * len(BODY), "of the nine bodies"
    stored = [path for path in (Path(running.state) / "s3").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in stored) > 7 * len(BODY)
    assert {path.stat().st_mode & 0o077 for path in stored} == {0}
    restart_emulator(running)
    versions = s3.list_object_versions(Bucket="versioned", Prefix="same")["Versions"]
    bodies = {
        s3.get_object(Bucket="versioned", Key="same", VersionId=each["VersionId"])["Body"].read() for each in versions
    }
    assert bodies == {BODY, BODY[1:], BODY[2:]}
    assert s3.get_object(Bucket="versioned", Key="in parts")["Body"].read() == BODY


def test_an_upload_in_parts_has_the_content_of_its_parts(running: LocalAccount) -> None:
    del running
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="parts")
    upload: Any = {"Bucket": "parts", "Key": "joined"}
    id = s3.create_multipart_upload(**upload)["UploadId"]
    parts = [BODY[: 5 * MIB], b""]
    tags = [
        s3.upload_part(**upload, UploadId=id, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(parts, 1)
    ]
    listed = s3.list_parts(**upload, UploadId=id)["Parts"]
    assert [part["Size"] for part in listed] == [5 * MIB, 0]
    done: Any = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]}
    s3.complete_multipart_upload(**upload, UploadId=id, MultipartUpload=done)
    assert s3.get_object(**upload)["Body"].read() == b"".join(parts)


def test_metrics_are_on_disk_and_outlive_the_emulator(running: LocalAccount) -> None:
    cloudwatch = boto3.client("cloudwatch")
    random_ = random.Random(1)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minute = timedelta(minutes=1)
    measured: list[float] = []

    def give() -> None:
        for _ in range(50):
            some = [round(random_.lognormvariate(10, 1), -1) for _ in range(1000)]
            measured.extend(some)
            data: Any = [
                {"MetricName": f"m{number % 10}", "Value": value, "Unit": "Microseconds", "Timestamp": now}
                for number, value in enumerate(some)
            ]
            cloudwatch.put_metric_data(Namespace="Memory", MetricData=data)

    assert growth(running, give) < 30 * MIB
    restart_emulator(running)
    found = cloudwatch.get_metric_statistics(
        Namespace="Memory", MetricName="m3", StartTime=now - minute, EndTime=now + minute, Period=60,
        Statistics=["SampleCount", "Sum", "Minimum", "Maximum"], ExtendedStatistics=["p50"],
    )["Datapoints"]  # fmt: skip
    (point,) = found
    expected = sorted(measured[3::10])
    assert point["SampleCount"] == 5000
    assert point["Sum"] == pytest.approx(sum(expected))
    assert (point["Minimum"], point["Maximum"], point["Unit"]) == (expected[0], expected[-1], "Microseconds")
    middle = (expected[2499] + expected[2500]) / 2
    assert point["ExtendedStatistics"]["p50"] == pytest.approx(middle, rel=0.01)


def test_log_events_are_on_disk_and_outlive_the_emulator(running: LocalAccount) -> None:
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="kept")
    logs.create_log_stream(logGroupName="kept", logStreamName="s")
    now = int(time.time() * 1000)

    def give() -> None:
        for batch in range(40):
            events: Any = [
                {"timestamp": now + batch, "message": f"{batch}/{number} " + "x" * 200} for number in range(1000)
            ]
            logs.put_log_events(logGroupName="kept", logStreamName="s", logEvents=events)

    assert growth(running, give) < 30 * MIB
    stored = logs.describe_log_groups(logGroupNamePrefix="kept")["logGroups"][0]["storedBytes"]
    assert stored > 40 * 1000 * 200
    # Until a snapshot knows the stream, its events are not part of the account.
    saved = Path(running.state) / "emulator/cloudwatch_logs.json"
    wait_until(lambda: "'kept'" in saved.read_text() and '"_stored"' in saved.read_text(), 30, "a snapshot")
    restart_emulator(running)
    logs.put_log_events(logGroupName="kept", logStreamName="s", logEvents=[{"timestamp": now - 1, "message": "late"}])
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName="kept", filterPattern="39/999")
    assert [event["message"][:6] for page in pages for event in page["events"]] == ["39/999"]
    events = logs.get_log_events(logGroupName="kept", logStreamName="s", startFromHead=True, limit=2)["events"]
    assert [event["message"][:4] for event in events] == ["late", "0/0 "]
    assert logs.describe_log_groups(logGroupNamePrefix="kept")["logGroups"][0]["storedBytes"] == stored + 4


def test_log_events_expire_with_the_retention_of_their_group(running: LocalAccount) -> None:
    del running
    logs = boto3.client("logs")
    now, day = int(time.time() * 1000), 24 * 3600 * 1000
    for group in ("expiring", "lasting"):
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="s")
        ages: Any = [{"timestamp": now - days * day - day // 2, "message": f"{days}"} for days in (4, 2, 0)]
        logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=ages)
    logs.put_retention_policy(logGroupName="expiring", retentionInDays=3)

    def messages(group: str) -> list[str]:
        return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]

    wait_until(lambda: messages("expiring") == ["2", "0"], 30, "the expiry of old events")
    assert messages("lasting") == ["4", "2", "0"]


def test_an_event_is_found_by_the_pointer_of_a_query(running: LocalAccount) -> None:
    del running
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="queried")
    logs.create_log_stream(logGroupName="queried", logStreamName="s")
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName="queried", logStreamName="s", logEvents=[{"timestamp": now, "message": "found"}])
    query = logs.start_query(
        logGroupName="queried",
        startTime=now // 1000 - 60,
        endTime=now // 1000 + 60,
        queryString="fields @message, @ptr",
    )
    (row,) = logs.get_query_results(queryId=query["queryId"])["results"]
    fields = {field["field"]: field["value"] for field in row}
    assert fields["@message"] == "found"
    record = logs.get_log_record(logRecordPointer=fields["@ptr"])["logRecord"]
    assert (record["@log"], record["@logStream"], record["@message"]) == ("queried", "s", "found")
