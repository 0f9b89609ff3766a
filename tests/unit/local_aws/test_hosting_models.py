"""Models and variants through SageMaker's API: served where AWS serves them, else refused or failed with a reason."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws.hosting import artifacts, deployer, model_data
from local_aws.hosting.fleet import Fleet
from tests.unit.local_aws.hosting_account import IMAGE, ROLE, HostingAccount, error_of, running, variant
from tests.unit.local_aws.test_artifacts import entry, packed

PREFIX = {"S3Uri": "s3://b/files/", "S3DataType": "S3Prefix", "CompressionType": "None"}


class FakeS3:
    """A bucket `b`."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert Bucket == "b"
        return {"ETag": str(hash(self.objects[Key]))}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        return {**self.head_object(Bucket, Key), "Body": Body(self.objects[Key])}

    def get_paginator(self, _operation: str) -> "FakeS3":
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803 - boto3's names
        rows = [
            {"Key": key, "Size": len(content), **self.head_object(Bucket, key)}
            for key, content in self.objects.items()
            if key.startswith(Prefix)
        ]
        return [{"Contents": rows}]

    def download_file(self, _bucket: str, key: str, path: str) -> None:
        Path(path).write_bytes(self.objects[key])


class Body(io.BytesIO):
    def iter_chunks(self, _size: int) -> list[bytes]:
        return [self.getvalue()]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[HostingAccount]:
    with running(tmp_path) as served:
        yield served


@pytest.fixture(autouse=True)
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3({"in/model.tar.gz": packed((entry("model.json"), b"{}")), "files/a.bin": b"1", "files/b/c.bin": b"2"})
    monkeypatch.setattr(artifacts, "s3_client", lambda: fake)
    monkeypatch.setattr(model_data, "s3_client", lambda: fake)
    return fake


def source(**changes: str) -> dict[str, Any]:
    return {"ModelDataSource": {"S3DataSource": {**PREFIX, **changes}}}


@pytest.mark.parametrize(
    ("container", "files"),
    [
        ({}, []),
        ({"ModelDataUrl": "s3://b/in/model.tar.gz"}, ["model.json"]),
        ({"ModelDataUrl": "https://s3.us-east-1.amazonaws.com/b/in/model.tar.gz"}, ["model.json"]),
        ({"ModelDataUrl": "https://b.s3.us-east-1.amazonaws.com/in/model.tar.gz"}, ["model.json"]),
        ({"ModelDataUrl": "https://b.s3.amazonaws.com/in/model.tar.gz"}, ["model.json"]),
        ({"ModelDataUrl": "https://s3.amazonaws.com/b/in/model.tar.gz"}, ["model.json"]),
        (source(), ["a.bin", "b/c.bin"]),
        (source(S3Uri="s3://b/files/a.bin", S3DataType="S3Object"), ["a.bin"]),
        (source(S3Uri="s3://b/in/model.tar.gz", S3DataType="S3Object", CompressionType="Gzip"), ["model.json"]),
    ],
)
def test_a_container_finds_its_model_data_whatever_form_it_has(
    account: HostingAccount, container: dict[str, Any], files: list[str]
) -> None:
    described = account.deploy(**container)
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")
    response = account.runtime.invoke_endpoint(EndpointName="e", Body=b"files")
    assert json.loads(response["Body"].read()) == files


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ({}, "no container"),
        ({"PrimaryContainer": {"Image": IMAGE}, "Containers": [{"Image": IMAGE}]}, "use only one of them"),
        ({"Containers": [{"Image": IMAGE}, {"Image": IMAGE}]}, "2 Containers"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://b/in/model.tar.gz"}}, "no Image"),
        ({"PrimaryContainer": {"ModelPackageName": "p"}}, "ModelPackageName"),
        ({"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}}, "MultiModel: set ModelDataUrl"),
        (
            {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "https://example.com/m"}},
            "not a location in S3",
        ),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b/x", **source()}}, "use only one of them"),
        ({"PrimaryContainer": {"Image": IMAGE, **source(S3Uri="s3://b/files")}}, "must end with a slash"),
        ({"PrimaryContainer": {"Image": IMAGE, **source(CompressionType="Gzip")}}, "an archive is an S3Object"),
        ({"PrimaryContainer": {"Image": IMAGE, **source(ManifestS3Uri="s3://b/manifest")}}, "ManifestS3Uri"),
    ],
)
def test_a_model_that_nothing_could_serve_is_refused(account: HostingAccount, model: dict[str, Any], part: str) -> None:
    code, message = error_of(lambda: account.sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, **model))
    assert code == "ValidationException"
    assert part in message
    assert account.sagemaker.list_models()["Models"] == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"InstanceType": None}, "InstanceType of variant v is missing"),
        ({"InstanceType": None, "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}, "ServerlessConfig"),
        ({"AcceleratorType": "ml.eia2.medium"}, "AcceleratorType"),
        ({"ModelName": "absent"}, "Could not find model"),
        ({"RoutingConfig": {"RoutingStrategy": "PREFIX_AWARE"}}, "PREFIX_AWARE"),
    ],
)
def test_a_variant_that_nothing_could_serve_is_refused(
    account: HostingAccount, changes: dict[str, Any], part: str
) -> None:
    account.sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    variants = [variant(**{"ModelName": "m", **changes})]
    create = account.sagemaker.create_endpoint_config
    code, message = error_of(lambda: create(EndpointConfigName="c", ProductionVariants=variants))
    assert code == "ValidationException"
    assert part in message


def test_two_variants_of_one_name_are_refused(account: HostingAccount) -> None:
    account.sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    variants = [variant(ModelName="m"), variant(ModelName="m")]
    create = account.sagemaker.create_endpoint_config
    assert "more than once" in error_of(lambda: create(EndpointConfigName="c", ProductionVariants=variants))[1]


@pytest.mark.parametrize("error", [KeyError("ModelDataUrl"), ValueError("x"), RuntimeError("y"), OSError("z")])
def test_any_exception_in_a_deployment_ends_as_a_failure_with_a_reason(
    account: HostingAccount, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(deployer, "replica_spec", fail)
    described = account.deploy()
    assert described["EndpointStatus"] == "Failed"
    assert type(error).__name__ in described["FailureReason"]
    account.delete()


def test_any_exception_after_the_instances_have_started_ends_as_a_failure_too(
    account: HostingAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise LookupError("no summary")

    monkeypatch.setattr(deployer.EndpointDeployer, "_summaries", fail)
    described = account.deploy()
    assert "LookupError" in described["FailureReason"]
    account.delete()


def test_any_exception_in_an_update_leaves_the_old_instances_serving(
    account: HostingAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()

    def fail(*_arguments: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(deployer, "replica_spec", fail)
    account.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="e")
    described = account.settled()
    assert described["EndpointStatus"] == "InService"
    assert "KeyError" in described["FailureReason"]
    assert account.runtime.invoke_endpoint(EndpointName="e", Body=b"files")["Body"].read() == b"[]"


def test_an_endpoint_scales_after_its_configuration_and_its_model_were_deleted(account: HostingAccount) -> None:
    account.deploy()
    account.sagemaker.delete_endpoint_config(EndpointConfigName="e")
    account.sagemaker.delete_model(ModelName="e")
    change = [{"VariantName": "v", "DesiredInstanceCount": 2}]
    account.sagemaker.update_endpoint_weights_and_capacities(EndpointName="e", DesiredWeightsAndCapacities=change)
    described = account.settled()
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert "FailureReason" not in described


def test_an_endpoint_whose_instances_could_not_be_stopped_can_be_deleted_again(
    account: HostingAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()
    with monkeypatch.context() as patched:

        async def fail(fleet: Fleet) -> None:
            patched.undo()
            await fleet.stop()
            raise PermissionError("not yours")

        patched.setattr(Fleet, "stop", fail)
        account.sagemaker.delete_endpoint(EndpointName="e")
        described = account.settled()
    assert described["EndpointStatus"] == "Failed"
    assert "not yours" in described["FailureReason"]
    account.delete()


@pytest.mark.parametrize(
    ("request_", "count", "weight"),
    [
        ({}, 1, 1.0),
        ({"RetainAllVariantProperties": True}, 2, 0.5),
        ({"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": ["DesiredWeight"]}, 2, 1.0),
        ({"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": ["DesiredInstanceCount"]}, 1, 0.5),
    ],
)
def test_an_update_keeps_the_properties_that_it_is_asked_to_keep(
    account: HostingAccount, request_: dict[str, Any], count: int, weight: float
) -> None:
    account.deploy()
    change = [{"VariantName": "v", "DesiredInstanceCount": 2, "DesiredWeight": 0.5}]
    account.sagemaker.update_endpoint_weights_and_capacities(EndpointName="e", DesiredWeightsAndCapacities=change)
    account.settled()
    excluded = [{"VariantPropertyType": name} for name in request_.pop("ExcludeRetainedVariantProperties", [])]
    given = {**request_, **({"ExcludeRetainedVariantProperties": excluded} if excluded else {})}
    account.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="e", **given)
    (described,) = account.settled()["ProductionVariants"]
    assert (described["DesiredInstanceCount"], described["DesiredWeight"]) == (count, weight)
