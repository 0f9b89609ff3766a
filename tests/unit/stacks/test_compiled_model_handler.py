"""The custom resource compiles once, and lets only a model be served that is new and answers as the original."""

import gzip
import json
import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY

from stacks.constructs.compiled_model_handler import index
from tests.unit.stacks.stubbed_compilation import (
    CHECKED_ON,
    COMPILED,
    COMPILED_FILES,
    JOB,
    ORIGINAL_FILES,
    PROPERTIES,
    REQUEST,
    Aws,
)


def event(kind: str, **properties: str) -> dict[str, Any]:
    return {"RequestType": kind, "PhysicalResourceId": "w/neo/1", "ResourceProperties": PROPERTIES | properties}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Aws()
    for stub in made.stubs.values():
        stub.activate()
    monkeypatch.setattr(boto3, "client", lambda name, **_: made.clients[name])
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


def test_new_inputs_start_a_job(aws: Aws) -> None:
    aws.job_is(None)
    answer = {"CompilationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:compilation-job/dev-neo-1"}
    aws.stubs["sagemaker"].add_response("create_compilation_job", answer, {"CompilationJobName": JOB, **REQUEST})
    assert index.on_event(event("Create"), None) == {"PhysicalResourceId": "w/neo/1"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDeniedException", "not authorized to perform: iam:PassRole"),
        ("ValidationException", "Could not assume role"),
    ],
)
def test_roles_that_iam_does_not_know_everywhere_yet_are_waited_for(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    aws.job_is(None)
    for _ in range(2):
        aws.stubs["sagemaker"].add_client_error("create_compilation_job", code, message)
    answer = {"CompilationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:compilation-job/dev-neo-1"}
    aws.stubs["sagemaker"].add_response("create_compilation_job", answer, {"CompilationJobName": JOB, **REQUEST})
    index.on_event(event("Create"), None)
    assert len(waited) == 2
    # What is refused for good is told at once, and what is refused for long in the end.
    aws.job_is(None)
    aws.stubs["sagemaker"].add_client_error("create_compilation_job", "ValidationException", "TargetDevice is wrong")
    with pytest.raises(ClientError, match="TargetDevice is wrong"):
        index.on_event(event("Create"), None)
    aws.job_is(None)
    for _ in range(10):
        aws.stubs["sagemaker"].add_client_error("create_compilation_job", code, message)
    with pytest.raises(ClientError, match=message):
        index.on_event(event("Create"), None)
    assert sum(waited) < 120


@pytest.mark.parametrize("status", ["STARTING", "INPROGRESS", "COMPLETED"])
def test_unchanged_inputs_never_compile_again(aws: Aws, status: str) -> None:
    aws.job_is(status)
    if status == "COMPLETED":
        aws.archive_is_there(True)
    assert index.on_event(event("Update"), None) == {"PhysicalResourceId": "w/neo/1"}


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_deployment_that_failed_may_be_tried_again(aws: Aws, status: str) -> None:
    aws.job_is(status)
    aws.stubs["sagemaker"].add_response("delete_compilation_job", {}, {"CompilationJobName": JOB})
    answer = {"CompilationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:compilation-job/dev-neo-1"}
    aws.stubs["sagemaker"].add_response("create_compilation_job", answer, {"CompilationJobName": JOB, **REQUEST})
    index.on_event(event("Create"), None)


def test_a_job_whose_archive_is_gone_is_made_again(aws: Aws) -> None:
    sagemaker = aws.stubs["sagemaker"]
    answer = {"CompilationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:compilation-job/dev-neo-1"}
    aws.job_is("COMPLETED")
    aws.archive_is_there(False)
    sagemaker.add_response("delete_compilation_job", {}, {"CompilationJobName": JOB})
    sagemaker.add_response("create_compilation_job", answer, {"CompilationJobName": JOB, **REQUEST})
    index.on_event(event("Create"), None)
    # The bucket of an earlier deployment.
    moved = REQUEST | {"OutputConfig": {"S3OutputLocation": "s3://other/w/neo/1/", "TargetDevice": "ml_g4dn"}}
    aws.job_is("COMPLETED")
    sagemaker.add_response("delete_compilation_job", {}, {"CompilationJobName": JOB})
    sagemaker.add_response("create_compilation_job", answer, {"CompilationJobName": JOB, **moved})
    index.on_event(event("Create", Job=json.dumps(moved)), None)


@pytest.mark.parametrize("status", ["STARTING", "INPROGRESS", "STOPPING"])
def test_a_running_job_is_waited_for(aws: Aws, status: str) -> None:
    aws.job_is(status)
    assert index.is_complete(event("Create"), None) == {"IsComplete": False}


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        ("FAILED", "ClientError: InputConfiguration: Incompatible Tensorflow model", "Incompatible Tensorflow model"),
        ("STOPPED", "", "STOPPED: no reason given"),
    ],
)
def test_a_failed_job_fails_the_deployment_with_neos_reason(aws: Aws, status: str, reason: str, told: str) -> None:
    aws.job_is(status, reason)
    with pytest.raises(RuntimeError, match=told):
        index.is_complete(event("Create"), None)


@pytest.mark.parametrize(
    ("compiled", "named"),
    [
        (ORIGINAL_FILES, "saved_model.pb"),
        ({"saved_model.pb": b"graph", "libdlr.so": b"runtime"}, "saved_model.pb"),
        ({"model/1/variables/variables.index": b"none", "README.md": b"new"}, "variables.index"),
        ({}, "returned no model: s3://b/w/neo/1/model-ml_g4dn.tar.gz has no model file"),
    ],
    ids=["the same archive", "the same graph elsewhere", "nothing but texts", "nothing"],
)
def test_a_model_that_neo_gave_back_as_it_was_is_refused_before_anything_is_started(
    aws: Aws, compiled: dict[str, bytes], named: str
) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is(None)
    aws.archives_are(compiled)
    with pytest.raises(RuntimeError, match=r"returned (the model unchanged|no model)") as raised:
        index.is_complete(event("Create"), None)
    assert named in str(raised.value)
    assert "neo-ai-dlr/issues/73" in str(raised.value)


def test_a_model_that_is_new_is_served_for_a_check_after_what_an_interrupted_one_left_is_gone(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is(None)
    aws.archives_are(COMPILED_FILES)
    aws.check_is_removed(found=False)
    aws.check_is_started()
    assert index.is_complete(event("Create"), None) == {"IsComplete": False}


@pytest.mark.parametrize("status", ["Creating", "Deleting"])
def test_the_endpoint_of_a_check_is_waited_for(aws: Aws, status: str) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is(status)
    assert index.is_complete(event("Create"), None) == {"IsComplete": False}


def test_a_model_that_answers_as_the_original_is_verified_and_the_check_removed(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("InService")
    aws.archives_are(COMPILED_FILES | {"NOTICE.txt": b"made here\n"})
    aws.answers_are([[0.1, 0.9]], {"predictions": [[0.105, 0.895]]})
    aws.check_is_removed()
    aws.stubs["s3"].add_response("put_object", {}, {"Bucket": "b", "Key": ANY, "Body": ANY})
    aws.endpoint_is("Deleting")
    assert index.is_complete(event("Create"), None) == {"IsComplete": False}
    # The next poll finds the record, and the endpoint gone.
    aws.job_is("COMPLETED")
    aws.record_is("as found")
    aws.endpoint_is(None)
    aws.check_is_removed(found=False)
    done = index.is_complete(event("Create"), None)
    assert done == {"IsComplete": True, "Data": {"Key": COMPILED, "Verification": "as found"}}


def test_the_verification_says_what_was_compared_and_what_the_archive_says_of_itself(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("InService")
    aws.archives_are(COMPILED_FILES | {"NOTICE.txt": b"made here\n"})
    aws.answers_are([[0.1, 0.9]], {"predictions": [[0.105, 0.895]]})
    written: list[dict[str, Any]] = []
    aws.clients["s3"].meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: written.append(dict(params))
    )
    aws.check_is_removed()
    aws.stubs["s3"].add_response("put_object", {}, {"Bucket": "b", "Key": ANY, "Body": ANY})
    aws.endpoint_is(None)
    aws.check_is_removed(found=False)
    told = index.is_complete(event("Create"), None)["Data"]["Verification"]
    assert told == (
        "1 images answered on ml.g4dn.xlarge with a mean difference of 0.005 and 0.00% of pixels changed; 1 of 2 model "
        "files are new; the archive says: made here"
    )
    assert json.loads(written[0]["Body"])["verification"] == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"predictions": [[0.9, 0.1]]}, "mean difference of 0.8 and 100.00% of pixels changed"),
        ({"predictions": [[0.12, 0.88]]}, "mean difference of 0.02"),
        ({"predictions": [[float("nan"), 0.9]]}, "mean difference of nan"),
        ({"predictions": [[0.1]]}, "answers 1 numbers where the original answers 2"),
        ({"error": "no such signature"}, "answers 0 numbers where the original answers 2.*no such signature"),
    ],
)
def test_a_model_that_answers_differently_is_refused_and_its_check_removed(aws: Aws, given: Any, told: str) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("InService")
    aws.archives_are(COMPILED_FILES)
    aws.answers_are([[0.1, 0.9]], given)
    aws.check_is_removed()
    with pytest.raises(RuntimeError, match=told):
        index.is_complete(event("Create"), None)


def test_pixels_that_change_sides_are_refused_however_little_they_move(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("InService")
    aws.archives_are(COMPILED_FILES)
    aws.answers_are([[0.499, 0.9]], {"predictions": [[0.501, 0.9]]})
    aws.check_is_removed()
    with pytest.raises(
        RuntimeError, match=r"50\.00% of pixels changed, where neo\.tolerance allows .* 25\.00% changed"
    ):
        index.is_complete(event("Create"), None)


def test_a_model_that_does_not_start_is_refused_with_the_containers_reason_and_its_check_removed(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("Failed", "the container ended with exit code 1")
    aws.check_is_removed()
    with pytest.raises(RuntimeError, match=r"does not start on ml\.g4dn\.xlarge .* exit code 1"):
        index.is_complete(event("Create"), None)


def test_an_answer_that_is_an_error_leaves_no_endpoint_behind(aws: Aws) -> None:
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.endpoint_is("InService")
    aws.archives_are(COMPILED_FILES)
    sample: dict[str, Any] = {"request": {"instances": []}, "answer": {"predictions": []}}
    aws.object_is(CHECKED_ON["ReferenceKey"], gzip.compress(json.dumps({"samples": [sample]}).encode()))
    aws.stubs["sagemaker-runtime"].add_client_error("invoke_endpoint", "ModelError", "exit code 1")
    aws.check_is_removed()
    with pytest.raises(ClientError, match="exit code 1"):
        index.is_complete(event("Create"), None)


def test_what_no_endpoint_can_run_is_compared_by_its_files_only(aws: Aws) -> None:
    without = event("Create")
    without["ResourceProperties"] = {name: value for name, value in PROPERTIES.items() if name != "Check"}
    aws.job_is("COMPLETED")
    aws.record_is(None)
    aws.archives_are(COMPILED_FILES)
    aws.stubs["s3"].add_response("put_object", {}, {"Bucket": "b", "Key": ANY, "Body": ANY})
    done = index.is_complete(without, None)
    assert done == {"IsComplete": True, "Data": {"Key": COMPILED, "Verification": "1 of 2 model files are new"}}


def test_another_tolerance_is_another_verification_of_the_same_compilation() -> None:
    records = set()
    for tolerance in (0.01, 0.02, 0.01):
        check = json.dumps(CHECKED_ON | {"MeanDifference": tolerance})
        records.add(index._record(PROPERTIES | {"Check": check}))
    assert len(records) == 2
    assert all(record.startswith("w/neo/1/verified-") for record in records)


def test_delete_stops_the_job_and_removes_check_job_and_every_version_of_the_archive(aws: Aws) -> None:
    sagemaker, s3 = aws.stubs["sagemaker"], aws.stubs["s3"]
    aws.job_is("INPROGRESS")
    sagemaker.add_response("stop_compilation_job", {}, {"CompilationJobName": JOB})
    assert index.on_event(event("Delete"), None) == {"PhysicalResourceId": "w/neo/1"}
    for status in ("Creating", "InService", "Deleting", None):
        aws.endpoint_is(status)
        if status in ("InService", None):
            aws.check_is_removed(found=status is not None)
        aws.job_is("STOPPING")
        assert index.is_complete(event("Delete"), None) == {"IsComplete": False}
    aws.endpoint_is(None)
    aws.check_is_removed(found=False)
    aws.job_is("STOPPED")
    sagemaker.add_response("delete_compilation_job", {}, {"CompilationJobName": JOB})
    versions = {
        "Versions": [{"Key": COMPILED, "VersionId": "1"}],
        "DeleteMarkers": [{"Key": COMPILED, "VersionId": "2"}],
    }
    s3.add_response("list_object_versions", versions, {"Bucket": "b", "Prefix": "w/neo/1/"})
    s3.add_response("delete_objects", {}, {"Bucket": "b", "Delete": ANY})
    assert index.is_complete(event("Delete"), None) == {"IsComplete": True}


@pytest.mark.usefixtures("aws")
def test_delete_of_a_resource_that_was_never_made_touches_nothing() -> None:
    never = event("Delete") | {"PhysicalResourceId": "something-else"}
    assert index.on_event(never, None) == {"PhysicalResourceId": "something-else"}
    assert index.is_complete(never, None) == {"IsComplete": True}
