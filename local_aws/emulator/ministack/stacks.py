"""CloudFormation's stacks and the operations on them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypedDict

from ministack.core import responses
from ministack.services import cloudformation
from ministack.services.cloudformation import changesets, handlers, stacks

Stack = dict[str, Any]
"""A stack's record, with the members that DescribeStacks returns."""


class Operation(TypedDict):
    """The fields of a rollback record that this package uses. `created`: logical IDs of new or changed resources."""

    is_update: bool
    previous_stack: Stack | None
    created: list[str]


def all_stacks() -> Collection[Stack]:
    """Return the records of all stacks."""
    records: Collection[Stack] = cloudformation._stacks.values()
    return records


def change_sets() -> Collection[dict[str, Any]]:
    """Return the records of all change sets."""
    records: Collection[dict[str, Any]] = cloudformation._change_sets.values()
    return records


def stack_resources(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the records of a stack's resources, by logical ID."""
    records: dict[str, dict[str, Any]] = stack.get("_resources", {})
    return records


def region_of(stack: Stack) -> AbstractContextManager[None]:
    """Return a context in which the current region is the stack's."""
    context: AbstractContextManager[None] = stacks._stack_region_context(stack, stack["StackId"])
    return context


@contextmanager
def region_named(name: str) -> Iterator[None]:
    """Make a region the current one."""
    before = responses.get_region()
    responses.set_request_region(name)
    try:
        yield
    finally:
        responses.set_request_region(before)


async def delete_stack(stack: Stack) -> None:
    """Delete a stack."""
    await stacks._delete_stack_async(stack["StackName"], stack["StackId"])


async def roll_back(stack: Stack, operation: Operation, reason: str) -> None:
    """Roll back a stack's unfinished deployment."""
    await stacks._roll_back_operation(stack["StackName"], stack["StackId"], stack, operation, reason)


def wrap_deployments(around: Callable[[Stack, Operation], AbstractContextManager[None]]) -> None:
    """Run each deployment of a stack in the context that `around` returns for it."""
    deploy = stacks._deploy_stack_async

    async def deploy_in_context(  # noqa: PLR0913 - MiniStack's signature
        stack_name: str, stack_id: str, template: Any, param_values: Any, disable_rollback: bool, tags: list[Any],
        is_update: bool = False, previous_stack: Stack | None = None, retain_except_on_create: bool = False,
        imports: Any = None,
    ) -> None:  # fmt: skip
        stack = cloudformation._stacks[stack_name]
        before = previous_stack or {}
        operation = stacks._failed_operation(
            is_update, previous_stack, [], None, None, [], False, template, param_values, retain_except_on_create,
            stack.get("Tags") or [], before.get("Tags") or [], imports,
        )  # fmt: skip
        with around(stack, operation):
            await deploy(
                stack_name, stack_id, template, param_values, disable_rollback, tags, is_update=is_update,
                previous_stack=previous_stack, retain_except_on_create=retain_except_on_create, imports=imports,
            )  # fmt: skip

    stacks._deploy_stack_async = handlers._deploy_stack_async = changesets._deploy_stack_async = deploy_in_context


def after_deletion(follow_up: Callable[[], object]) -> None:
    """Call a function after each deletion of a stack, before any caller can see the outcome."""
    delete = stacks._delete_stack_async

    async def delete_and_follow_up(
        stack_name: str, stack_id: str, retain_resources: Any = (), force: bool = False
    ) -> None:
        await delete(stack_name, stack_id, retain_resources, force=force)
        follow_up()

    stacks._delete_stack_async = handlers._delete_stack_async = delete_and_follow_up


def run_on_worker_thread(kinds: Collection[str]) -> None:
    """Run the handlers of these resource types on a worker thread, so they may wait for this server's responses."""
    runs_on_worker_thread = stacks._runs_on_worker_thread
    stacks._runs_on_worker_thread = lambda kind: kind in kinds or bool(runs_on_worker_thread(kind))
