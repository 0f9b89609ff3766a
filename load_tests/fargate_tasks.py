"""Start, monitor and stop the tasks of one load test on Fargate, and read their output."""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from containers.load_test.contract import CONTAINER, log_stream
from load_tests.launch import Event, LoadTestError

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef, TaskTypeDef
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import GetLogEventsRequestTypeDef

Role = Literal["master", "worker"]
AT_ONCE = 10
"""Maximum number of tasks that one RunTask call starts (API reference)."""
_DESCRIBED = 100
"""Maximum number of tasks that one DescribeTasks call describes (API reference)."""
_NO_CAPACITY = "Capacity is unavailable"
"""ECS's message when Fargate has no capacity ("How do I resolve insufficient capacity", AWS re:Post)."""
_STOPPED_SECONDS = 120.0
_QUOTED_LINES = 3


class NoCapacityError(LoadTestError):
    """Fargate has no capacity of that kind now; the message is from ECS."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the tasks run, from the outputs of the LoadTestStack.

    results: s3:// URL that ends in a slash.
    """

    name: str
    task_definition: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    results: str
    log_group: str

    @classmethod
    def of(cls, outputs: Mapping[str, str]) -> "Cluster":
        """Create from the stack's outputs; raises KeyError for a missing one."""
        return cls(
            name=outputs["ClusterName"],
            task_definition=outputs["TaskDefinition"],
            subnets=tuple(outputs["Subnets"].split(",")),
            security_groups=tuple(outputs["SecurityGroups"].split(",")),
            results=outputs["Results"],
            log_group=outputs["LogGroup"],
        )


@dataclass(frozen=True, slots=True)
class Task:
    """A task as ECS describes it.

    address: private IPv4 address.
    began, ended: start and end of the time that Fargate bills.
    """

    arn: str
    role: Role
    spot: bool
    status: str
    address: str | None = None
    reason: str = ""
    stop_code: str = ""
    exit_code: int | None = None
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def stopped(self) -> bool:
        """Whether the task has stopped."""
        return self.status == "STOPPED"

    @property
    def seconds(self) -> float:
        """Billed seconds: from the start of the image download to the end, at least 60 (AWS Fargate pricing)."""
        if self.began is None or self.ended is None:
            return 0.0
        return max(60.0, (self.ended - self.began).total_seconds())

    def why(self) -> str:
        """Say why the task stopped, quoting ECS."""
        code = f", exit code {self.exit_code}" if self.exit_code is not None else ""
        return f"{self.role} task {self.arn.rpartition('/')[2]} stopped: {self.reason or 'no reason given'}{code}"


class Output:
    """Output of a task's container, read from CloudWatch Logs: events, one JSON document per line, and plain text."""

    def __init__(self, client: "CloudWatchLogsClient", log_group: str, task_arn: str) -> None:
        self._client, self._group, self._stream = client, log_group, log_stream(task_arn)
        self._token: str | None = None
        self.words: deque[str] = deque(maxlen=_QUOTED_LINES)

    def events(self) -> list[Event]:
        """Return the new events; none before the task has written anything."""
        events: list[Event] = []
        for line in self._lines():
            try:
                document = json.loads(line)
            except ValueError:
                document = None
            if isinstance(document, dict) and "event" in document:
                events.append(document)
            elif line.strip():
                self.words.append(line.strip())
        return events

    def _lines(self) -> list[str]:
        lines: list[str] = []
        with contextlib.suppress(self._client.exceptions.ResourceNotFoundException):
            while True:
                request: GetLogEventsRequestTypeDef = {
                    "logGroupName": self._group,
                    "logStreamName": self._stream,
                    "startFromHead": True,
                }
                if self._token is not None:
                    request["nextToken"] = self._token
                page = self._client.get_log_events(**request)
                lines += [event.get("message", "") for event in page["events"]]
                before, self._token = self._token, page["nextForwardToken"]
                if not page["events"] or before == self._token:
                    break
        return lines


class Tasks:
    """Every task that this load test started.

    started_by: tag of these tasks in ECS, at most 128 characters.
    """

    def __init__(self, cluster: Cluster, started_by: str, poll_seconds: float) -> None:
        self.poll_seconds = poll_seconds
        self._cluster, self._started_by = cluster, started_by
        config = Config(retries={"mode": "standard", "total_max_attempts": 8})
        self._ecs: ECSClient = boto3.client("ecs", config=config)
        self._logs: CloudWatchLogsClient = boto3.client("logs", config=config)
        self._roles: dict[str, tuple[Role, bool]] = {}

    def start(self, role: Role, count: int, environment: Mapping[str, str], *, spot: bool) -> list[str]:
        """Start tasks and return their ARNs; raises NoCapacityError for a lack of capacity, else LoadTestError."""
        started: list[str] = []
        while len(started) < count:
            request: RunTaskRequestTypeDef = {
                "cluster": self._cluster.name,
                "taskDefinition": self._cluster.task_definition,
                "count": min(AT_ONCE, count - len(started)),
                "startedBy": self._started_by,
                "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT" if spot else "FARGATE", "weight": 1}],
                "networkConfiguration": {
                    "awsvpcConfiguration": {
                        "subnets": list(self._cluster.subnets),
                        "securityGroups": list(self._cluster.security_groups),
                        "assignPublicIp": "DISABLED",
                    }
                },
                "overrides": {
                    "containerOverrides": [
                        {
                            "name": CONTAINER,
                            "command": [role],
                            "environment": [{"name": name, "value": value} for name, value in environment.items()],
                        }
                    ]
                },
            }
            try:
                response = self._ecs.run_task(**request)
            except ClientError as error:
                if _NO_CAPACITY in str(error):
                    raise NoCapacityError(str(error)) from error
                raise
            arns = [task.get("taskArn", "") for task in response["tasks"]]
            self._roles.update(dict.fromkeys(arns, (role, spot)))
            started += arns
            if response["failures"]:
                reasons = ", ".join(sorted({each.get("reason", "no reason given") for each in response["failures"]}))
                kind = NoCapacityError if _NO_CAPACITY in reasons else LoadTestError
                raise kind(f"ECS started {len(started)} of {count} {role} tasks: {reasons}")
        return started

    def count(self, role: Role) -> int:
        """Return the number of tasks started in that role."""
        return sum(each == role for each, _ in self._roles.values())

    def look(self) -> list[Task]:
        """Describe every task in start order, leaving out those that ECS does not list yet."""
        arns = list(self._roles)
        tasks: dict[str, Task] = {}
        for first in range(0, len(arns), _DESCRIBED):
            described = self._ecs.describe_tasks(cluster=self._cluster.name, tasks=arns[first : first + _DESCRIBED])
            for task in described["tasks"]:
                arn = task.get("taskArn", "")
                tasks[arn] = _task(task, *self._roles[arn])
        return [tasks[arn] for arn in arns if arn in tasks]

    def output(self, arn: str) -> Output:
        """Return the output of a task."""
        return Output(self._logs, self._cluster.log_group, arn)

    def stopped_because(self, task: Task, output: Output | None = None, seconds: float = 10.0) -> str:
        """Say why a task stopped, with its container's last output, which can reach the logs some seconds later."""
        output = output or self.output(task.arn)
        deadline = time.monotonic() + seconds
        while task.exit_code is not None:
            output.events()
            if output.words or time.monotonic() > deadline:
                break
            time.sleep(self.poll_seconds)
        quoted = f"; its last output: {' '.join(output.words)}" if output.words else ""
        return f"{task.why()}{quoted}; its log is {log_stream(task.arn)} in {self._cluster.log_group}"

    def stop(self, reason: str, on_note: Callable[[str], object]) -> list[Task]:
        """Stop every running task, wait until it has stopped, and return all tasks with their end times.

        Errors of the client library are not raised: a note lists every task that may still run.
        """
        left: Sequence[str] = list(self._roles)
        try:
            left = self._stop(reason)
            deadline = time.monotonic() + _STOPPED_SECONDS
            while True:
                tasks = self.look()
                left = [task.arn for task in tasks if not task.stopped]
                if not left:
                    return tasks
                if time.monotonic() > deadline:
                    break
                time.sleep(self.poll_seconds)
        except (BotoCoreError, ClientError) as error:
            on_note(f"tasks could not be stopped: {error}")
            tasks = []
        on_note(
            f"{len(left)} tasks may still run and be billed: aws ecs stop-task --cluster {self._cluster.name} --task "
            f"{' '.join(left)}"
        )
        return tasks

    def _stop(self, reason: str) -> list[str]:
        """Ask ECS to stop all tasks, including any whose start was never confirmed."""
        pages = self._ecs.get_paginator("list_tasks").paginate(cluster=self._cluster.name, startedBy=self._started_by)
        for arn in (arn for page in pages for arn in page["taskArns"]):
            self._roles.setdefault(arn, ("worker", False))
        running = [task.arn for task in self.look() if not task.stopped]
        for arn in running:
            self._ecs.stop_task(cluster=self._cluster.name, task=arn, reason=reason)
        return running


def no_capacity(task: Task) -> bool:
    """Return whether a task never ran because Fargate had no capacity for it."""
    return task.stopped and _NO_CAPACITY in task.reason


def _task(task: "TaskTypeDef", role: Role, spot: bool) -> Task:
    details: list[Any] = [d for each in task.get("attachments", []) for d in each.get("details", [])]
    addresses = [each["value"] for each in details if each.get("name") == "privateIPv4Address"]
    codes = [each["exitCode"] for each in task.get("containers", []) if each.get("exitCode") is not None]
    return Task(
        arn=task.get("taskArn", ""),
        role=role,
        spot=spot,
        status=task.get("lastStatus", ""),
        address=addresses[0] if addresses else None,
        reason=" ".join(
            filter(None, [task.get("stoppedReason", ""), *(c.get("reason", "") for c in task.get("containers", []))])
        ),
        stop_code=task.get("stopCode", ""),
        exit_code=codes[0] if codes else None,
        began=task.get("pullStartedAt"),
        ended=task.get("stoppedAt"),
    )
