"""Custom resource Custom::RemovedStacks: deletes the stacks that a deployment no longer has.

CloudFormation passes the lists of the last deployment and of this one, so nothing has to be remembered or searched for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import boto3
from botocore.exceptions import ClientError

Event = dict[str, Any]
_GONE = "DELETE_COMPLETE"


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Return the stacks to delete: on an update, those that only the last deployment had, dependents first."""
    del context
    removed: list[str] = []
    # In a rollback the lists change places: deleting what only the old one has would delete what was just deployed.
    if event["RequestType"] == "Update" and not _rolls_back(event["StackId"]):
        kept = event["ResourceProperties"]["Stacks"]
        removed = [name for name in reversed(event["OldResourceProperties"]["Stacks"]) if name not in kept]
    for name in removed:
        # Try again here what an earlier deployment could not delete: later, this status means that this one failed.
        if _stack(name).get("StackStatus") == "DELETE_FAILED":
            _delete(name)
    return {"PhysicalResourceId": event["StackId"], "Data": {"Removed": removed}}


def is_complete(event: Event, context: object) -> dict[str, Any]:
    """Delete one stack after the other; raise RuntimeError with the reason and the fix when one cannot be deleted."""
    del context
    removed: Sequence[str] = event["Data"]["Removed"]
    for name in removed:
        stack = _stack(name)
        status = stack.get("StackStatus", _GONE)
        if status == "DELETE_FAILED":
            raise RuntimeError(_advice(name, stack.get("StackStatusReason") or "see the events of the stack"))
        if status != _GONE:
            if status != "DELETE_IN_PROGRESS":
                _delete(name)
            return {"IsComplete": False}
    return {"IsComplete": True}


def _rolls_back(stack: str) -> bool:
    return "ROLLBACK" in _stack(stack)["StackStatus"]


def _stack(name: str) -> Mapping[str, Any]:
    """Return the description of a stack, which is empty once the stack is gone."""
    try:
        stack: Mapping[str, Any] = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
            return {}
        raise
    return stack


def _delete(name: str) -> None:
    try:
        boto3.client("cloudformation").delete_stack(StackName=name)
    except ClientError as error:
        raise RuntimeError(_advice(name, error.response["Error"]["Message"])) from error


def _advice(name: str, reason: str) -> str:
    return (
        f"the deployment no longer has the stack {name}, but it cannot be deleted: {reason}. Mend that, or delete it "
        f"with `aws cloudformation delete-stack --stack-name {name}`, and deploy again"
    )
