"""Hosting's protocols: requests held against AWS's service models, and every error in AWS's form."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_aws.hosting.patterns import compiled
from tests.unit.local_aws.hosting_account import IMAGE, ROLE, HostingAccount, error_of, running, variant

HOUR = timedelta(hours=1)
JSON = "application/x-amz-json-1.1"
COMPILATION = {
    "CompilationJobName": "job",
    "RoleArn": ROLE,
    "InputConfig": {
        "S3Uri": "s3://b/model.tar.gz", "DataInputConfig": "{}", "Framework": "TENSORFLOW", "FrameworkVersion": "2.9",
    },
    "OutputConfig": {"S3OutputLocation": "s3://b/out/", "TargetDevice": "ml_g4dn"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 900},
}  # fmt: skip


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostingAccount]:
    """An account with one endpoint, `e`. Tests share it and do not change it."""
    with running(tmp_path_factory.mktemp("state")) as served:
        assert served.deploy()["EndpointStatus"] == "InService"
        yield served


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[HostingAccount]:
    with running(tmp_path) as served:
        yield served


@pytest.mark.parametrize(
    ("operation", "request_", "part"),
    [
        ("create_model", {}, "'modelName' failed to satisfy constraint: Member must not be null"),
        ("create_model", {"ModelName": "-m"}, "Member must satisfy regular expression pattern"),
        ("create_model", {"ModelName": "m" * 64}, "Member must have length less than or equal to 63"),
        ("create_model", {"ModelName": "m", "ExecutionRoleArn": "me"}, "'executionRoleArn'"),
        ("create_model", {"ModelName": "m", "PrimaryContainer": {"Image": IMAGE, "Mode": "Both"}}, "enum value set"),
        ("create_model", {"ModelName": "m", "Tags": [{"Key": "k!", "Value": "v"}]}, "'tags.1.member.key'"),
        ("create_endpoint_config", {"EndpointConfigName": "c", "ProductionVariants": []}, "greater than or equal to 1"),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c", "ProductionVariants": [variant(InstanceType="ml.none")]},
            "'ml.none' at 'productionVariants.1.member.instanceType'",
        ),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c", "ProductionVariants": [variant(InitialInstanceCount=0)]},
            "Member must have value greater than or equal to 1",
        ),
        (
            "create_endpoint_config",
            {
                "EndpointConfigName": "c",
                "ProductionVariants": [variant(ServerlessConfig={"MemorySizeInMB": 1, "MaxConcurrency": 1})],
            },
            "'productionVariants.1.member.serverlessConfig.memorySizeInMB'",
        ),
        ("list_endpoints", {"MaxResults": 101}, "less than or equal to 100"),
        ("list_endpoints", {"SortBy": "Color"}, "enum value set"),
        ("list_endpoints", {"StatusEquals": "Fine"}, "enum value set"),
        ("describe_endpoint", {"EndpointName": "e e"}, "regular expression"),
    ],
)
def test_input_outside_of_the_service_model_is_refused_in_aws_words(
    account: HostingAccount, operation: str, request_: dict[str, Any], part: str
) -> None:
    code, message = error_of(lambda: getattr(account.sagemaker, operation)(**request_))
    assert code == "ValidationException"
    assert " validation error" in message
    assert part in message


def test_an_inference_ami_is_one_of_sagemakers_and_is_described_as_given(account: HostingAccount) -> None:
    chosen = "al2-ami-sagemaker-inference-neuron-2"
    made = {"EndpointConfigName": "neuron", "ProductionVariants": [variant(ModelName="e", InferenceAmiVersion=chosen)]}
    account.sagemaker.create_endpoint_config(**made)
    (described,) = account.sagemaker.describe_endpoint_config(EndpointConfigName="neuron")["ProductionVariants"]
    assert described["InferenceAmiVersion"] == chosen
    made["ProductionVariants"] = [variant(ModelName="e", InferenceAmiVersion="newest")]
    code, message = error_of(lambda: account.sagemaker.create_endpoint_config(**made))
    assert (code, "'productionVariants.1.member.inferenceAmiVersion'" in message) == ("ValidationException", True)


def test_several_problems_are_reported_together(account: HostingAccount) -> None:
    message = error_of(lambda: account.sagemaker.create_model(ModelName="-", ExecutionRoleArn="me"))[1]
    assert message.startswith("3 validation errors detected: ")


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("SageMaker.ListEndpoints", b"{", "SerializationException"),
        ("SageMaker.ListEndpoints", b"[]", "SerializationException"),
        ("SageMaker.ListEndpoints", b'{"MaxResults": "ten"}', "SerializationException"),
        ("SageMaker.ListEndpoints", b'{"MaxResults": true}', "SerializationException"),
        ("SageMaker.ListEndpoints", b'{"MaxResults": 1.5}', "SerializationException"),
        ("SageMaker.ListEndpoints", b'{"Color": "red"}', "ValidationException"),
        ("SageMaker.CreateTrainingJob", b"{}", "UnknownOperationException"),
        ("Other.ListEndpoints", b"{}", "UnknownOperationException"),
    ],
)
def test_a_request_that_no_client_library_sends_gets_an_error_of_the_protocol(
    account: HostingAccount, target: str, body: bytes, code: str
) -> None:
    response = account.send("/", body, **{"x-amz-target": target, "content-type": JSON})
    assert (response.status_code, response.json()["__type"]) == (400, code)
    assert response.headers["x-amzn-requestid"]


def test_null_means_that_a_member_is_absent(account: HostingAccount) -> None:
    headers = {"x-amz-target": "SageMaker.ListEndpoints", "content-type": JSON}
    assert account.send("/", b'{"NameContains": null}', **headers).json()["Endpoints"]


def test_the_text_of_a_template_counts_as_the_number_that_it_means(empty: HostingAccount) -> None:
    empty.sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    production = variant(ModelName="m", InitialInstanceCount="2", InitialVariantWeight="0.5")
    body = json.dumps({"EndpointConfigName": "c", "ProductionVariants": [production]}).encode()
    headers = {"x-amz-target": "SageMaker.CreateEndpointConfig", "content-type": "application/json"}
    assert empty.send("/", body, **headers).status_code == 200
    (described,) = empty.sagemaker.describe_endpoint_config(EndpointConfigName="c")["ProductionVariants"]
    assert (described["InitialInstanceCount"], described["InitialVariantWeight"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Größe 9", True),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a!", False),
        (r"\p{Print}+", "a~", True),
        (r"\p{Print}+", "é", False),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "\U0001f600", True),
        (r"\A\S[\p{Print}]*\z", " a", False),
    ],
)
def test_java_patterns_of_service_models_match_what_they_match_there(pattern: str, text: str, fits: bool) -> None:
    translated = compiled(pattern)
    assert translated is not None
    assert bool(translated.fullmatch(text)) == fits


def test_a_compilation_job_may_have_tags(empty: HostingAccount) -> None:
    tags = [{"Key": "Größe", "Value": "1"}]
    arn = empty.sagemaker.create_compilation_job(**COMPILATION, Tags=tags)["CompilationJobArn"]
    assert empty.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


def test_an_unexpected_exception_is_an_internal_failure(empty: HostingAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("local_aws.hosting.listing.page", fail)
    code, message = error_of(lambda: empty.sagemaker.list_models())
    assert (code, "ZeroDivisionError" in message) == ("InternalFailure", True)


def test_lists_are_filtered_sorted_and_in_pages(empty: HostingAccount) -> None:
    for name in ("b-1", "a-1", "a-2"):
        empty.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
        time.sleep(0.01)

    def names(**request: Any) -> list[str]:
        return [each["ModelName"] for each in empty.sagemaker.list_models(**request)["Models"]]

    assert names() == ["a-2", "a-1", "b-1"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["a-1", "a-2", "b-1"]
    assert names(NameContains="a-") == ["a-2", "a-1"]
    created = empty.sagemaker.describe_model(ModelName="a-1")["CreationTime"]
    assert (len(names(CreationTimeAfter=created - HOUR)), names(CreationTimeAfter=created + HOUR)) == (3, [])
    assert (len(names(CreationTimeBefore=created + HOUR)), names(CreationTimeBefore=created - HOUR)) == (3, [])
    page = empty.sagemaker.list_models(MaxResults=2)
    assert [each["ModelName"] for each in page["Models"]] == ["a-2", "a-1"]
    assert names(NextToken=page["NextToken"]) == ["b-1"]
    assert error_of(lambda: names(NextToken="mine"))[0] == "ValidationException"


def test_endpoints_are_listed_by_status_and_by_the_time_of_their_last_change(account: HostingAccount) -> None:
    changed = account.sagemaker.describe_endpoint(EndpointName="e")["LastModifiedTime"]

    def count(**request: Any) -> int:
        return len(account.sagemaker.list_endpoints(**request)["Endpoints"])

    assert (count(StatusEquals="InService"), count(StatusEquals="Failed")) == (1, 0)
    assert (count(LastModifiedTimeAfter=changed - HOUR), count(LastModifiedTimeAfter=changed + HOUR)) == (1, 0)
    assert (count(LastModifiedTimeBefore=changed + HOUR), count(LastModifiedTimeBefore=changed - HOUR)) == (1, 0)


def test_tags_are_listed_in_pages(empty: HostingAccount) -> None:
    tags = [{"Key": f"k{number}", "Value": "v"} for number in range(3)]
    arn = empty.sagemaker.create_model(
        ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE, Tags=tags
    )["ModelArn"]
    page = empty.sagemaker.list_tags(ResourceArn=arn, MaxResults=50)
    assert page["Tags"] == tags
    assert len(list(empty.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn))) == 1


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ([{"VariantName": "v"}, {"VariantName": "v"}], "more than once"),
        ([{"VariantName": "w"}], "does not exist"),
        ([{"VariantName": "v", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}], "serverless"),
    ],
)
def test_weights_and_capacities_name_each_variant_of_the_endpoint_once(
    account: HostingAccount, changes: list[dict[str, Any]], part: str
) -> None:
    update = account.sagemaker.update_endpoint_weights_and_capacities
    code, message = error_of(lambda: update(EndpointName="e", DesiredWeightsAndCapacities=changes))
    assert (code, part in message) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AsyncInferenceConfig", {"OutputConfig": {"S3OutputPath": "s3://b/out"}}),
        ("ExplainerConfig", {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}}),
    ],
)
def test_a_feature_that_the_local_account_lacks_is_refused(account: HostingAccount, name: str, value: Any) -> None:
    request = {"EndpointConfigName": "c", "ProductionVariants": [variant(ModelName="e")], name: value}
    code, message = error_of(lambda: account.sagemaker.create_endpoint_config(**request))
    assert (code, name in message) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        ({"TargetContainerHostname": "second"}, "TargetContainerHostname is not supported"),
        ({"EnableExplanations": "`true`"}, "no ExplainerConfig"),
        ({"SessionId": "NEW_SESSION"}, "no stateful sessions"),
        ({"TargetVariant": "w"}, "Variant w was not found"),
        ({"TargetModel": "a.tar.gz"}, "not a multi-model endpoint"),
        ({"InferenceComponentName": "c"}, "Inference Component Name header is not allowed"),
        ({"EndpointName": "absent"}, "Endpoint absent of account 000000000000 not found"),
        ({"EndpointName": "e" * 64}, "less than or equal to 63"),
        ({"InferenceId": "i" * 65}, "less than or equal to 64"),
        ({"CustomAttributes": "a" * 1025}, "less than or equal to 1024"),
    ],
)
def test_an_invocation_that_asks_for_what_is_not_there_is_refused(
    account: HostingAccount, request_: dict[str, Any], part: str
) -> None:
    code, message = error_of(lambda: account.runtime.invoke_endpoint(**{"EndpointName": "e", "Body": b"x", **request_}))
    assert (code, part in message) == ("ValidationError", True), message


def test_custom_attributes_are_visible_ascii(account: HostingAccount) -> None:
    # httpx takes bytes where its headers are not ASCII.
    headers: Any = {"x-amzn-sagemaker-custom-attributes": "café".encode()}
    response = account.send("/endpoints/e/invocations", b"x", **headers)
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (400, "ValidationError")


def test_streaming_and_asynchronous_invocations_are_refused_in_their_protocol(account: HostingAccount) -> None:
    stream, deferred = account.runtime.invoke_endpoint_with_response_stream, account.runtime.invoke_endpoint_async
    code, message = error_of(lambda: stream(EndpointName="e", Body=b"x"))
    assert (code, "does not stream responses" in message) == ("ValidationError", True)
    code, message = error_of(lambda: deferred(EndpointName="e", InputLocation="s3://b/in"))
    assert (code, "AsyncInferenceConfig" in message) == ("ValidationError", True)
    assert "not found" in error_of(lambda: stream(EndpointName="absent", Body=b"x"))[1]


@pytest.mark.parametrize("path", ["/endpoints/e/other", "/endpoints", "/x/y"])
def test_a_path_that_does_not_exist_gets_an_error_that_clients_can_read(account: HostingAccount, path: str) -> None:
    response = account.send(path, b"")
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert path in response.json()["message"]


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/json", "text/plain; charset=latin-1"])
def test_the_content_type_of_a_container_passes_unchanged(account: HostingAccount, kind: str) -> None:
    response = account.runtime.invoke_endpoint(EndpointName="e", Body=b"x", Accept=kind)
    assert response["ContentType"] == kind


def test_every_response_has_a_request_id_of_its_own(account: HostingAccount) -> None:
    answers = [
        account.sagemaker.list_endpoints(),
        account.runtime.invoke_endpoint(EndpointName="e", Body=b"x"),
        account.scaling.describe_scalable_targets(ServiceNamespace="sagemaker"),
    ]
    ids = [each["ResponseMetadata"]["RequestId"] for each in answers]
    for response in (
        account.send("/", b"{}"),
        account.send("/endpoints/absent/invocations", b""),
        account.send("/nowhere", b""),
    ):
        assert response.status_code >= 400
        ids.append(response.headers["x-amzn-requestid"])
    assert len(set(ids)) == len(ids) == 6


def test_a_request_that_is_not_signed_gets_a_request_id_too(account: HostingAccount) -> None:
    response = httpx.post(account.url, content=b"{}", trust_env=False)
    assert response.status_code == 403
    assert response.headers["x-amzn-requestid"]
