"""ECS in the emulator: a task's containers run on this machine, and a stopped task reports its exit code."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ministack.services import ecs

from local_aws.account import STATE_VARIABLE, Engine, default_cache, engine
from local_aws.emulator.containers import Client
from local_aws.podman.state import TASKS, remove_containers

_MOST_TASKS = 10
"""Most tasks per RunTask call (API reference)."""
_build_run_kwargs, _run_task, _stop_task = ecs._build_run_kwargs, ecs._run_task, ecs._stop_task
_mark_task_stopped = ecs._mark_task_stopped
_reasons: dict[str, str] = {}


def _run_kwargs(definition: dict[str, Any], *arguments: Any) -> dict[str, Any]:
    seconds = definition.get("stopTimeout")
    return {**_build_run_kwargs(definition, *arguments), "stop_timeout": float(seconds) if seconds else None}


def _run_few_tasks(data: dict[str, Any]) -> Any:
    if not 1 <= int(data.get("count", 1)) <= _MOST_TASKS:
        return ecs.error_response_json("InvalidParameterException", f"count must be from 1 to {_MOST_TASKS}.", 400)
    return _run_task(data)


def _stop_processes(data: dict[str, Any]) -> Any:
    """Respond at once, as ECS does, and stop in the background: processes have until stopTimeout to end cleanly."""
    task = ecs._resolve_task(data.get("task", ""), ecs._resolve_cluster_name(data.get("cluster", "default")))
    if not task or task["lastStatus"] == "STOPPED" or not task.get("_docker_ids"):
        return _stop_task(data)
    _reasons[task["taskArn"]] = data.get("reason", "Task stopped by user")
    threading.Thread(target=_stop, args=(list(task["_docker_ids"]),), daemon=True, name="stop-task").start()
    return ecs.json_response({"task": {**ecs._sanitize(task), "desiredStatus": "STOPPED"}})


def _stop(container_ids: Sequence[str]) -> None:
    for container_id in container_ids:
        ecs._docker.containers.get(container_id).stop()


def _mark_stopped(
    task_arn: str, task: dict[str, Any], reason: str, stop_code: str, exit_code: int | None = None
) -> Any:
    if task_arn in _reasons:
        reason, stop_code = _reasons.pop(task_arn), "UserInitiated"
    return _mark_task_stopped(task_arn, task, reason, stop_code, exit_code)


def register() -> None:
    """Make ECS use processes instead of a Docker daemon's containers."""
    state = Path(os.environ[STATE_VARIABLE])
    if engine() is Engine.PODMAN:
        # An earlier emulator that was killed may have left containers behind.
        remove_containers(default_cache(), state, TASKS)
    ecs._docker = Client(state)
    ecs._build_run_kwargs = _run_kwargs
    ecs._mark_task_stopped = _mark_stopped
    ecs._ACTION_MAP |= {"RunTask": _run_few_tasks, "StopTask": _stop_processes}
