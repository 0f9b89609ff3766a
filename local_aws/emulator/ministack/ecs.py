"""ECS's tasks and the containers that they run in."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ministack.services import ecs

from local_aws.emulator.ministack.responses import Response

Task = dict[str, Any]
"""A task's record, with the members that DescribeTasks returns."""
Handle = Callable[[dict[str, Any]], Response]
"""Handler of an operation: takes the request."""


class MarkStopped(Protocol):
    """Function that records the end of a task, and returns whether the task was still active."""

    def __call__(self, task_arn: str, task: Task, reason: str, stop_code: str, exit_code: int | None = None) -> bool:
        """Record the end."""


def use_docker_client(client: object) -> None:
    """Run containers with this client, whose interface is that of `docker.from_env()`."""
    ecs._docker = client


def stop_container(container_id: str) -> None:
    """Stop a container, and wait until it has ended."""
    ecs._docker.containers.get(container_id).stop()


def extend_container_options(options: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Start each container also with the options that this function returns for its container definition."""
    build_run_kwargs = ecs._build_run_kwargs

    def extended(definition: dict[str, Any], *arguments: Any) -> dict[str, Any]:
        return {**build_run_kwargs(definition, *arguments), **options(definition)}

    ecs._build_run_kwargs = extended


def wrap_mark_stopped(wrap: Callable[[MarkStopped], MarkStopped]) -> None:
    """Replace the function that records the end of a task with what `wrap` returns for it."""
    ecs._mark_task_stopped = wrap(ecs._mark_task_stopped)


def wrap_operation(operation: str, wrap: Callable[[Handle], Handle]) -> None:
    """Replace the handler of an operation with what `wrap` returns for it."""
    ecs._ACTION_MAP[operation] = wrap(ecs._ACTION_MAP[operation])


def find_task(task: str, cluster: str) -> Task | None:
    """Return the record of a task, given as ID or ARN, in a cluster, given as name or ARN."""
    record: Task | None = ecs._resolve_task(task, ecs._resolve_cluster_name(cluster))
    return record


def container_ids(task: Task) -> Sequence[str]:
    """Return the IDs of a task's containers."""
    return list(task.get("_docker_ids") or ())


def describe_task(task: Task) -> dict[str, Any]:
    """Return a task as DescribeTasks does."""
    description: dict[str, Any] = ecs._sanitize(task)
    return description
