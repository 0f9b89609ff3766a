"""The custom resource deletes the stacks that only the last deployment had, and tells why one cannot be deleted."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from botocore.stub import Stubber

from stacks.constructs.removed_stacks_handler import index
from tests.unit.stacks.stubbed_clients import stubbed

OWN = "arn:aws:cloudformation:us-east-1:123456789012:stack/Dev-Cleanup/1"


def update(before: Sequence[str], now: Sequence[str]) -> dict[str, Any]:
    return {
        "RequestType": "Update",
        "StackId": OWN,
        "ResourceProperties": {"Stacks": list(now)},
        "OldResourceProperties": {"Stacks": list(before)},
    }


def waiting(*removed: str) -> dict[str, Any]:
    return {"Data": {"Removed": list(removed)}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Stubber:
    return stubbed(monkeypatch, "cloudformation")["cloudformation"]


def stack_is(aws: Stubber, name: str, status: str | None, **facts: str) -> None:
    """One call of DescribeStacks, for a stack with that status, or for one that is not there."""
    asked = {"StackName": name}
    if status is None:
        message = f"Stack with id {name} does not exist"
        aws.add_client_error("describe_stacks", "ValidationError", message, 400, expected_params=asked)
        return
    stack: Mapping[str, Any] = {"StackName": name, "CreationTime": 0, "StackStatus": status, **facts}
    aws.add_response("describe_stacks", {"Stacks": [stack]}, asked)


def is_deleted(aws: Stubber, name: str) -> None:
    aws.add_response("delete_stack", {}, {"StackName": name})


def test_an_update_removes_what_only_the_last_deployment_had_and_dependents_first(aws: Stubber) -> None:
    stack_is(aws, OWN, "UPDATE_IN_PROGRESS")
    stack_is(aws, "Dev-B", "CREATE_COMPLETE")
    stack_is(aws, "Dev-B-Compiler", "CREATE_COMPLETE")
    event = update(["Dev-A", "Dev-B-Compiler", "Dev-B"], ["Dev-A", "Dev-C"])
    assert index.on_event(event, None)["Data"] == {"Removed": ["Dev-B", "Dev-B-Compiler"]}
    aws.assert_no_pending_responses()


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"])
def test_a_rollback_removes_nothing(aws: Stubber, status: str) -> None:
    stack_is(aws, OWN, status)
    assert index.on_event(update(["Dev-New"], ["Dev-Old"]), None)["Data"] == {"Removed": []}


@pytest.mark.parametrize("kind", ["Create", "Delete"])
def test_the_first_deployment_and_the_destruction_remove_nothing(aws: Stubber, kind: str) -> None:
    event = {"RequestType": kind, "StackId": OWN, "ResourceProperties": {"Stacks": ["Dev-A"]}}
    assert index.on_event(event, None) == {"PhysicalResourceId": OWN, "Data": {"Removed": []}}
    aws.assert_no_pending_responses()


def test_one_stack_is_deleted_after_the_other(aws: Stubber) -> None:
    stack_is(aws, "Dev-B", "UPDATE_COMPLETE")
    is_deleted(aws, "Dev-B")
    assert index.is_complete(waiting("Dev-B", "Dev-B-Compiler"), None) == {"IsComplete": False}
    stack_is(aws, "Dev-B", "DELETE_IN_PROGRESS")
    assert index.is_complete(waiting("Dev-B", "Dev-B-Compiler"), None) == {"IsComplete": False}
    stack_is(aws, "Dev-B", None)
    stack_is(aws, "Dev-B-Compiler", "CREATE_COMPLETE")
    is_deleted(aws, "Dev-B-Compiler")
    assert index.is_complete(waiting("Dev-B", "Dev-B-Compiler"), None) == {"IsComplete": False}
    stack_is(aws, "Dev-B", None)
    stack_is(aws, "Dev-B-Compiler", None)
    assert index.is_complete(waiting("Dev-B", "Dev-B-Compiler"), None) == {"IsComplete": True}
    aws.assert_no_pending_responses()


def test_what_somebody_else_deleted_is_done(aws: Stubber) -> None:
    stack_is(aws, "Dev-B", None)
    assert index.is_complete(waiting("Dev-B"), None) == {"IsComplete": True}


def test_a_stack_that_cannot_be_deleted_fails_with_the_reason_and_the_command(aws: Stubber) -> None:
    stack_is(aws, "Dev-B", "DELETE_FAILED", StackStatusReason="bucket not empty")
    with pytest.raises(RuntimeError, match="Dev-B, but it cannot be deleted: bucket not empty") as raised:
        index.is_complete(waiting("Dev-B"), None)
    assert "aws cloudformation delete-stack --stack-name Dev-B" in str(raised.value)


def test_termination_protection_is_named(aws: Stubber) -> None:
    stack_is(aws, "Dev-B", "CREATE_COMPLETE")
    message = "Stack [Dev-B] cannot be deleted while TerminationProtection is enabled"
    aws.add_client_error("delete_stack", "ValidationError", message, 400)
    with pytest.raises(RuntimeError, match="TerminationProtection is enabled"):
        index.is_complete(waiting("Dev-B"), None)


def test_the_next_deployment_tries_again_what_could_not_be_deleted(aws: Stubber) -> None:
    stack_is(aws, OWN, "UPDATE_IN_PROGRESS")
    stack_is(aws, "Dev-B", "DELETE_FAILED")
    is_deleted(aws, "Dev-B")
    assert index.on_event(update(["Dev-B"], []), None)["Data"] == {"Removed": ["Dev-B"]}
    aws.assert_no_pending_responses()
