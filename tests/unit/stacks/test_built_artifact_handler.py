"""The custom resource builds what is not there, waits, and tells why a build failed."""

import io
import json
import time
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from stacks.constructs.built_artifact_handler import index
from tests.unit.stacks.stubbed_clients import stubbed

PROPERTIES = {"ProjectName": "p", "Bucket": "b", "Prefix": "w/m/hash", "Recipe": "{}", "WaitsOn": "false"}


def event(kind: str, **members: Any) -> dict[str, Any]:
    return {"RequestType": kind, "ResourceProperties": PROPERTIES, **members}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> dict[str, Stubber]:
    return stubbed(monkeypatch, "s3", "codebuild")


def object_is(aws: dict[str, Stubber], name: str, content: bytes | None) -> None:
    """Listed before it is read: a role that may list a prefix only gets 403, not 404, for a missing object."""
    key = f"w/m/hash/{name}"
    listed = {"KeyCount": int(content is not None)}
    aws["s3"].add_response("list_objects_v2", listed, {"Bucket": "b", "Prefix": key, "MaxKeys": 1})
    if content is not None:
        body = {"Body": StreamingBody(io.BytesIO(content), len(content))}
        aws["s3"].add_response("get_object", body, {"Bucket": "b", "Key": key})


def build_is(aws: dict[str, Stubber], status: str) -> None:
    phases = [{"phaseType": "BUILD", "contexts": [{"message": "exit status 1"}]}]
    aws["codebuild"].add_response(
        "batch_get_builds", {"builds": [{"id": "p:1", "buildStatus": status, "phases": phases}]}, {"ids": ["p:1"]}
    )


def test_a_new_prefix_starts_a_build_with_its_recipe(aws: dict[str, Stubber]) -> None:
    object_is(aws, "summary.json", None)
    overrides = [
        {"name": "RECIPE", "value": "{}", "type": "PLAINTEXT"},
        {"name": "ARTIFACT_PREFIX", "value": "w/m/hash", "type": "PLAINTEXT"},
    ]
    aws["codebuild"].add_response(
        "start_build", {"build": {"id": "p:1"}}, {"projectName": "p", "environmentVariablesOverride": overrides}
    )
    answer = index.on_event(event("Create"), None)
    assert answer["PhysicalResourceId"] == "p/w/m/hash"
    assert (answer["Data"]["Prefix"], answer["Data"]["BuildId"]) == ("w/m/hash", "p:1")


def test_a_finished_artifact_is_not_built_again(aws: dict[str, Stubber]) -> None:
    object_is(aws, "summary.json", b"{}")
    started = index.on_event(event("Update"), None)
    assert started["Data"]["BuildId"] == "reused"
    object_is(aws, "summary.json", b"{}")
    assert index.is_complete(event("Update", Data=started["Data"]), None)["IsComplete"] is True


def test_a_running_build_is_waited_for(aws: dict[str, Stubber]) -> None:
    build_is(aws, "IN_PROGRESS")
    assert index.is_complete(event("Create", Data={"BuildId": "p:1"}), None) == {"IsComplete": False}


def waiting(until: float, *, last: bool) -> dict[str, Any]:
    properties = {**PROPERTIES, "BuildId": "p:1", "WaitsOn": "false" if last else "true"}
    return event("Create", Data={"BuildId": "p:1", "Until": str(until)}, ResourceProperties=properties)


def test_a_resource_whose_time_is_over_leaves_a_running_build_to_the_next(aws: dict[str, Stubber]) -> None:
    build_is(aws, "IN_PROGRESS")
    done = index.is_complete(waiting(time.time() - 1, last=False), None)
    assert done == {"IsComplete": True, "Data": {"Prefix": "w/m/hash", "BuildId": "p:1"}}


@pytest.mark.parametrize(("until", "last"), [(60.0, False), (-60.0, True)])
def test_before_that_and_at_the_last_resource_it_waits(aws: dict[str, Stubber], until: float, last: bool) -> None:
    build_is(aws, "IN_PROGRESS")
    assert index.is_complete(waiting(time.time() + until, last=last), None) == {"IsComplete": False}


def test_a_resource_that_goes_on_waiting_starts_and_deletes_nothing(aws: dict[str, Stubber]) -> None:
    started = index.on_event(waiting(0, last=True), None)
    assert started["Data"]["BuildId"] == "p:1"
    index.on_event({**waiting(0, last=True), "RequestType": "Delete", **started}, None)
    for stub in aws.values():
        stub.assert_no_pending_responses()


def test_the_resource_after_the_end_of_a_build_returns_what_it_reported(aws: dict[str, Stubber]) -> None:
    build_is(aws, "SUCCEEDED")
    archive = {"sha256": "a" * 64, "manifest_sha256": "b" * 64}
    object_is(aws, "summary.json", json.dumps({"artifacts": {"int8": archive}}).encode())
    done = index.is_complete(waiting(time.time() - 1, last=False), None)
    assert done["Data"]["Int8Sha256"] == "a" * 64


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(b'{"message": "F1 is 80 before and 70 after"}', "F1 is 80 before and 70 after"), (None, "BUILD: exit status 1")],
)
def test_a_failed_build_fails_the_deployment_with_its_reason(
    aws: dict[str, Stubber], failure: bytes | None, reason: str
) -> None:
    build_is(aws, "FAILED")
    object_is(aws, "failure.json", failure)
    with pytest.raises(RuntimeError, match=reason):
        index.is_complete(event("Create", Data={"BuildId": "p:1"}), None)


def test_a_build_that_left_nothing_is_a_failure(aws: dict[str, Stubber]) -> None:
    build_is(aws, "SUCCEEDED")
    object_is(aws, "summary.json", None)
    with pytest.raises(RuntimeError, match=r"left no summary\.json"):
        index.is_complete(event("Create", Data={"BuildId": "p:1"}), None)


def test_delete_removes_every_version_below_its_own_prefix_only(aws: dict[str, Stubber]) -> None:
    versions = {
        "Versions": [{"Key": "w/m/hash/a", "VersionId": "1"}],
        "DeleteMarkers": [{"Key": "w/m/hash/b", "VersionId": "2"}],
    }
    aws["s3"].add_response("list_object_versions", versions, {"Bucket": "b", "Prefix": "w/m/hash/"})
    aws["s3"].add_response("delete_objects", {}, {"Bucket": "b", "Delete": ANY})
    assert index.on_event(event("Delete", PhysicalResourceId="p/w/m/hash"), None)["PhysicalResourceId"] == "p/w/m/hash"
    aws["s3"].assert_no_pending_responses()
    # A create that failed before it had an id of its own has nothing to delete.
    index.on_event(event("Delete", PhysicalResourceId="something-else"), None)
    assert index.is_complete(event("Delete"), None) == {"IsComplete": True}


def test_the_deployment_gets_the_hashes_that_the_build_reported(aws: dict[str, Stubber]) -> None:
    build_is(aws, "SUCCEEDED")
    archives = {
        "int8": {"bytes": 1, "sha256": "a" * 64, "manifest_sha256": "b" * 64},
        "openvino_int8": {"bytes": 1, "sha256": "c" * 64, "manifest_sha256": "d" * 64},
        "churn-xgb-CA.tar.gz": {"bytes": 1, "sha256": "e" * 64},
    }
    object_is(aws, "summary.json", json.dumps({"artifacts": archives}).encode())
    data = index.is_complete(event("Create", Data={"BuildId": "p:1"}), None)["Data"]
    assert data == {
        "Prefix": "w/m/hash",
        "BuildId": "p:1",
        "Int8Sha256": "a" * 64,
        "Int8ManifestSha256": "b" * 64,
        "OpenvinoInt8Sha256": "c" * 64,
        "OpenvinoInt8ManifestSha256": "d" * 64,
    }
