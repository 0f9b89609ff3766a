"""Roll back stack operations that an earlier emulator process did not finish.

The real CloudFormation does not crash. An emulator that was killed restarts from its last snapshot, where an unfinished
stack would stay in `CREATE_IN_PROGRESS` forever. The CDK's command line would then report the next deployment of the
same template as done, since nothing had changed.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from local_aws.emulator import components, sagemaker, snapshots, taken_names
from local_aws.emulator.hosting import HostingError, ask
from local_aws.emulator.ministack import codebuild, stacks
from local_aws.emulator.ministack.application import after_loading_state
from local_aws.emulator.ministack.stacks import Operation, Stack, stack_resources

logger = logging.getLogger("recovery")

REASON = "the local account's emulator ended during this operation, which is being rolled back: deploy again"
_UNDER_WAY = "_under_way"
_KINDS = (components.KIND, "Endpoint", "EndpointConfig", "Model")
"""Kinds of resources that the hosting process keeps, dependents first."""
_RESTORERS = {"AWS::SageMaker::Endpoint": sagemaker.restore_endpoint, components.TYPE: components.restore}
_LISTENING_SECONDS = 30
_tasks: set[asyncio.Task[None]] = set()
_started = time.time()


@contextmanager
def _recorded(stack: Stack, operation: Operation) -> Iterator[None]:
    """Store on the stack what a rollback needs until the deployment ends."""
    stack[_UNDER_WAY] = operation
    try:
        yield
    finally:
        stack.pop(_UNDER_WAY, None)
        # Before any caller can see the outcome: an operation reported as done must never be rolled back.
        if snapshots.save():
            taken_names.journal().end(stack["StackId"])


def _start_recovery() -> None:
    for build in codebuild.all_builds():
        if build["buildStatus"] == "IN_PROGRESS":
            codebuild.finish_build(build, "FAULT")
    for change_set in stacks.change_sets():
        if change_set.get("ExecutionStatus") == "EXECUTE_IN_PROGRESS":
            change_set["ExecutionStatus"] = "EXECUTE_FAILED"
    # Before the first request, which might create the same again.
    taken_names.remove_lost()
    unfinished = [each for each in stacks.all_stacks() if _unfinished(each)]
    task = asyncio.get_running_loop().create_task(_recover(unfinished))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _unfinished(stack: Stack) -> bool:
    """Return whether an operation is unfinished.

    Sets the rollback status at once, so the operation no longer looks in progress.
    """
    status: str = stack["StackStatus"]
    if status == "DELETE_IN_PROGRESS":
        return True
    if not status.endswith("_IN_PROGRESS") or _UNDER_WAY not in stack:
        return False
    stack["StackStatus"] = "UPDATE_ROLLBACK_IN_PROGRESS" if stack[_UNDER_WAY]["is_update"] else "ROLLBACK_IN_PROGRESS"
    stack["StackStatusReason"] = REASON
    return True


async def _recover(unfinished: list[Stack]) -> None:
    await _listening()
    owned = {arn for stack in stacks.all_stacks() for arn in _physical_ids(stack)}
    await asyncio.to_thread(_remove_lost, owned)
    for stack in unfinished:
        name = stack["StackName"]
        if stack["StackStatus"] == "DELETE_IN_PROGRESS":
            logger.warning("resuming the deletion of %s", name)
            task = stacks.delete_stack(stack)
        else:
            logger.warning("rolling back %s", name)
            task = _roll_back(stack)
        try:
            with stacks.region_of(stack):
                await task
        except Exception:
            # An error in one stack must not leave the next one in progress.
            logger.exception("%s could not be recovered", name)


async def _roll_back(stack: Stack) -> None:
    operation: Operation = stack.pop(_UNDER_WAY)
    resources, before = stack_resources(stack), stack_resources(operation["previous_stack"] or {})
    operation["created"] = [name for name, record in resources.items() if record != before.get(name)]
    # An update that was in progress continues in the hosting process, and may use what the rollback is about to remove.
    for name, record in before.items():
        restore = _RESTORERS.get(record["ResourceType"])
        if restore is not None and resources.get(name) == record:
            try:
                await asyncio.to_thread(restore, record["PhysicalResourceId"], record["Properties"])
            except HostingError as error:
                logger.error("%s of %s could not be restored: %s", name, stack["StackName"], error)
    await stacks.roll_back(stack, operation, REASON)
    snapshots.save()


async def _listening() -> None:
    """Wait until this emulator accepts connections, because custom resources report to its port."""
    deadline = time.monotonic() + _LISTENING_SECONDS
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["GATEWAY_PORT"]))
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def _physical_ids(stack: Stack) -> list[str]:
    before = stack.get(_UNDER_WAY, {}).get("previous_stack") or {}
    records = [*stack_resources(stack).values(), *stack_resources(before).values()]
    return [str(record.get("PhysicalResourceId")) for record in records]


def _remove_lost(owned: set[str]) -> None:
    """Remove resources from the hosting process that a stack created after the last snapshot and no longer knows."""
    for kind in _KINDS:
        try:
            listed = ask(f"SageMaker.List{kind}s", {"MaxResults": 100})[f"{kind}s"]
            for record in listed:
                arn = record[f"{kind}Arn"]
                if arn not in owned and record["CreationTime"] < _started and sagemaker.made_by_a_stack(arn):
                    logger.warning("removing %s: the deployment that created it was lost", arn)
                    sagemaker.delete(kind, arn)
        except HostingError as error:
            logger.warning("leftovers of a lost deployment could not be removed: %s", error)


def register() -> None:
    """Wrap the stack operations, and run recovery between loading the state and the first request."""
    stacks.wrap_deployments(_recorded)
    stacks.after_deletion(snapshots.save)
    after_loading_state(_start_recovery)
