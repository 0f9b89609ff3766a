"""Roll back stack operations that an earlier emulator process did not finish.

The real CloudFormation does not crash. An emulator that was killed restarts from its last snapshot, where an unfinished
stack would stay in `CREATE_IN_PROGRESS` forever. The CDK's command line would then report the next deployment of the
same template as done, since nothing had changed.
"""

import asyncio
import logging
import os
import time
from typing import Any

import ministack.app as ministack_app
from ministack.services import cloudformation, codebuild
from ministack.services.cloudformation import changesets, handlers, stacks

from local_aws.emulator import components, sagemaker, snapshots
from local_aws.emulator.hosting import HostingError, Properties, ask

logger = logging.getLogger("recovery")

REASON = "the local account's emulator ended during this operation, which is being rolled back: deploy again"
_UNDER_WAY = "_under_way"
_KINDS = (components.KIND, "Endpoint", "EndpointConfig", "Model")
"""Kinds of resources that the hosting process keeps, dependents first."""
_RESTORERS = {"AWS::SageMaker::Endpoint": sagemaker.restore_endpoint, components.TYPE: components.restore}
_LISTENING_SECONDS = 30
_tasks: set[asyncio.Task[None]] = set()
_started = time.time()
_deploy_stack = stacks._deploy_stack_async
_delete_stack = stacks._delete_stack_async
_load_persisted_state = ministack_app._load_persisted_state


async def _deploy(  # noqa: PLR0913 - MiniStack's signature
    stack_name: str, stack_id: str, template: Properties, param_values: Properties, disable_rollback: bool,
    tags: list[Any], is_update: bool = False, previous_stack: Properties | None = None,
    retain_except_on_create: bool = False, imports: Properties | None = None,
) -> None:  # fmt: skip
    """Run MiniStack's deployment, and store on the stack what a rollback needs until it ends."""
    stack = cloudformation._stacks[stack_name]
    before = previous_stack or {}
    stack[_UNDER_WAY] = stacks._failed_operation(
        is_update, previous_stack, [], None, None, [], False, template, param_values, retain_except_on_create,
        stack.get("Tags") or [], before.get("Tags") or [], imports,
    )  # fmt: skip
    try:
        await _deploy_stack(
            stack_name, stack_id, template, param_values, disable_rollback, tags, is_update=is_update,
            previous_stack=previous_stack, retain_except_on_create=retain_except_on_create, imports=imports,
        )  # fmt: skip
    finally:
        stack.pop(_UNDER_WAY, None)
        # Before any caller can see the outcome: an operation reported as done must never be rolled back.
        snapshots.save()


async def _delete(stack_name: str, stack_id: str, retain_resources: Any = (), force: bool = False) -> None:
    await _delete_stack(stack_name, stack_id, retain_resources, force=force)
    snapshots.save()


def _load_and_recover() -> None:
    _load_persisted_state()
    for build in codebuild._builds.values():
        if build["buildStatus"] == "IN_PROGRESS":
            codebuild._finish_build(build, "FAULT")
    for change_set in cloudformation._change_sets.values():
        if change_set.get("ExecutionStatus") == "EXECUTE_IN_PROGRESS":
            change_set["ExecutionStatus"] = "EXECUTE_FAILED"
    unfinished = [each for each in cloudformation._stacks.values() if _unfinished(each)]
    task = asyncio.get_running_loop().create_task(_recover(unfinished))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _unfinished(stack: Properties) -> bool:
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


async def _recover(unfinished: list[Properties]) -> None:
    await _listening()
    owned = {arn for stack in cloudformation._stacks.values() for arn in _physical_ids(stack)}
    await asyncio.to_thread(_remove_lost, owned)
    for stack in unfinished:
        name, stack_id = stack["StackName"], stack["StackId"]
        if stack["StackStatus"] == "DELETE_IN_PROGRESS":
            logger.warning("resuming the deletion of %s", name)
            task = _delete(name, stack_id)
        else:
            logger.warning("rolling back %s", name)
            task = _roll_back(stack)
        try:
            with stacks._stack_region_context(stack, stack_id):
                await task
        except Exception:
            # An error in one stack must not leave the next one in progress.
            logger.exception("%s could not be recovered", name)


async def _roll_back(stack: Properties) -> None:
    operation = stack.pop(_UNDER_WAY)
    resources, before = stack.get("_resources", {}), (operation["previous_stack"] or {}).get("_resources", {})
    operation["created"] = [name for name, record in resources.items() if record != before.get(name)]
    # An update that was in progress continues in the hosting process, and may use what the rollback is about to remove.
    for name, record in before.items():
        restore = _RESTORERS.get(record["ResourceType"])
        if restore is not None and resources.get(name) == record:
            try:
                await asyncio.to_thread(restore, record["PhysicalResourceId"], record["Properties"])
            except HostingError as error:
                logger.error("%s of %s could not be restored: %s", name, stack["StackName"], error)
    await stacks._roll_back_operation(stack["StackName"], stack["StackId"], stack, operation, REASON)
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


def _physical_ids(stack: Properties) -> list[str]:
    before = stack.get(_UNDER_WAY, {}).get("previous_stack") or {}
    records = [*stack.get("_resources", {}).values(), *before.get("_resources", {}).values()]
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
    for module in (stacks, handlers, changesets):
        module._deploy_stack_async = _deploy
    for module in (stacks, handlers):
        module._delete_stack_async = _delete
    ministack_app._load_persisted_state = _load_and_recover
