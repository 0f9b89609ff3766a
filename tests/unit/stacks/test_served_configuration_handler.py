"""A deployment fails when its endpoint does not serve what was deployed."""

from typing import Any

import pytest
from botocore.stub import Stubber

from stacks.constructs.served_configuration_handler import index
from tests.unit.stacks.stubbed_clients import stubbed


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Stubber:
    return stubbed(monkeypatch, "sagemaker")["sagemaker"]


def endpoint_is(sagemaker: Stubber, status: str, config: str, **more: str) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dev-a-b"
    described: dict[str, Any] = {
        "EndpointName": "dev-a-b",
        "EndpointArn": arn,
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": 0,
        "LastModifiedTime": 0,
        **more,
    }
    sagemaker.add_response("describe_endpoint", described, {"EndpointName": "dev-a-b"})


def event(kind: str) -> dict[str, Any]:
    properties = {"EndpointName": "dev-a-b", "EndpointConfigName": "new"}
    return {"RequestType": kind, "ResourceProperties": properties}


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_an_endpoint_that_serves_what_was_deployed_passes(sagemaker: Stubber, kind: str) -> None:
    endpoint_is(sagemaker, "InService", "new")
    assert index.on_event(event(kind), None) == {"PhysicalResourceId": "dev-a-b"}


def test_an_update_that_sagemaker_rolled_back_fails_with_its_reason(sagemaker: Stubber) -> None:
    endpoint_is(sagemaker, "InService", "old", FailureReason="the alarm dev-a-b-x fired")
    with pytest.raises(RuntimeError, match="the configuration old instead of new: the alarm dev-a-b-x fired"):
        index.on_event(event("Update"), None)


def test_an_endpoint_that_does_not_serve_fails(sagemaker: Stubber) -> None:
    endpoint_is(sagemaker, "Failed", "new")
    with pytest.raises(RuntimeError, match="dev-a-b is Failed"):
        index.on_event(event("Create"), None)


def test_the_deletion_asks_nothing(sagemaker: Stubber) -> None:
    assert index.on_event(event("Delete"), None) == {"PhysicalResourceId": "dev-a-b"}
    sagemaker.assert_no_pending_responses()
