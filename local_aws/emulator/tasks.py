"""ECS in the emulator: a task's containers run on this machine, and a stopped task reports its exit code."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local_aws.account import STATE_VARIABLE, Engine, default_cache, engine
from local_aws.emulator.containers import Client
from local_aws.emulator.ministack import ecs
from local_aws.emulator.ministack.responses import Response, error_response, json_response
from local_aws.podman.state import TASKS, remove_containers

_MOST_TASKS = 10
"""Most tasks per RunTask call (API reference)."""
_reasons: dict[str, str] = {}


def _stop_timeout(definition: dict[str, Any]) -> dict[str, Any]:
    seconds = definition.get("stopTimeout")
    return {"stop_timeout": float(seconds) if seconds else None}


def _limiting_count(run_task: ecs.Handle) -> ecs.Handle:
    def run(data: dict[str, Any]) -> Response:
        if not 1 <= int(data.get("count", 1)) <= _MOST_TASKS:
            return error_response("InvalidParameterException", f"count must be from 1 to {_MOST_TASKS}.", 400)
        return run_task(data)

    return run


def _stopping_in_background(stop_task: ecs.Handle) -> ecs.Handle:
    """Respond at once, as ECS does, and stop in the background: processes have until stopTimeout to end cleanly."""

    def stop(data: dict[str, Any]) -> Response:
        task = ecs.find_task(data.get("task", ""), data.get("cluster", "default"))
        if not task or task["lastStatus"] == "STOPPED" or not ecs.container_ids(task):
            return stop_task(data)
        _reasons[task["taskArn"]] = data.get("reason", "Task stopped by user")
        threading.Thread(target=_stop, args=(ecs.container_ids(task),), daemon=True, name="stop-task").start()
        return json_response({"task": {**ecs.describe_task(task), "desiredStatus": "STOPPED"}})

    return stop


def _stop(container_ids: Sequence[str]) -> None:
    for container_id in container_ids:
        ecs.stop_container(container_id)


def _keeping_reasons(mark_stopped: ecs.MarkStopped) -> ecs.MarkStopped:
    """Record the reason given to StopTask as that of the task's end."""

    def mark(task_arn: str, task: ecs.Task, reason: str, stop_code: str, exit_code: int | None = None) -> bool:
        if task_arn in _reasons:
            reason, stop_code = _reasons.pop(task_arn), "UserInitiated"
        return mark_stopped(task_arn, task, reason, stop_code, exit_code)

    return mark


def register() -> None:
    """Make ECS use processes instead of a Docker daemon's containers."""
    state = Path(os.environ[STATE_VARIABLE])
    if engine() is Engine.PODMAN:
        # An earlier emulator that was killed may have left containers behind.
        remove_containers(default_cache(), state, TASKS)
    ecs.use_docker_client(Client(state))
    ecs.extend_container_options(_stop_timeout)
    ecs.wrap_mark_stopped(_keeping_reasons)
    ecs.wrap_operation("RunTask", _limiting_count)
    ecs.wrap_operation("StopTask", _stopping_in_background)
