"""An account whose tasks do as a test says, behind the real client library, which checks what it is asked."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from containers.load_test.contract import CONTAINER, log_stream
from load_tests.closed_loop import Request
from load_tests.fargate import Capacity
from load_tests.fargate_tasks import Cluster
from load_tests.plan import Plan, SageMakerTarget
from tests.unit.load_tests.test_load_results import ordinary

CLUSTER = Cluster(
    "c", "arn:task-definition/t:1", ("subnet-1", "subnet-2"), ("sg-1",), "s3://artifacts/load-tests/", "l"
)
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
REQUESTS = [Request(body=b"{}", content_type="application/json")]
SPOT, FALLING_BACK, FULL_PRICE = Capacity(True, False), Capacity(True, True), Capacity(False, False)
_SESSION = botocore.session.Session()
"""One for all, since it keeps the services' models."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakeTask:
    """A task of the account, and the request that started it."""

    arn: str
    request: dict[str, Any]
    status: str = "RUNNING"
    reason: str = ""
    code: str = ""
    exit_code: int | None = None

    @property
    def role(self) -> str:
        role: str = self.request["overrides"]["containerOverrides"][0]["command"][0]
        return role

    @property
    def spot(self) -> bool:
        spot: bool = self.request["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT"
        return spot

    @property
    def environment(self) -> dict[str, str]:
        return {e["name"]: e["value"] for e in self.request["overrides"]["containerOverrides"][0]["environment"]}

    def stop(self, reason: str, code: str = "EssentialContainerExited", exit_code: int | None = 0) -> None:
        if self.status != "STOPPED":
            self.status, self.reason, self.code, self.exit_code = "STOPPED", reason, code, exit_code


@dataclass
class FakeAccount:
    """S3, ECS and CloudWatch Logs. turn: called at every DescribeTasks, to let time pass for the tasks."""

    turn: Callable[["FakeAccount"], None]
    objects: dict[str, bytes] = field(default_factory=dict)
    tasks: list[FakeTask] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse: Callable[[dict[str, Any]], str | None] = lambda _request: None
    fail: Callable[[dict[str, Any]], str | None] = lambda _request: None
    answer_lost: bool = False
    stops: bool = True

    def client(self, service: str, **options: Any) -> Any:
        """In place of boto3.client."""
        made = _SESSION.create_client(service, "us-east-1", aws_access_key_id="a", aws_secret_access_key="b", **options)
        events: Any = made.meta.events
        events.register("before-call", self._answer)
        return made

    def of(self, role: str) -> list[FakeTask]:
        return [task for task in self.tasks if task.role == role]

    @property
    def master(self) -> FakeTask:
        return self.of("master")[0]

    def say(self, task: FakeTask, *lines: str) -> None:
        self.lines.setdefault(log_stream(task.arn), []).extend(lines)

    def tell(self, **event: Any) -> None:
        self.say(self.master, json.dumps(event))

    def _answer(self, model: Any, params: dict[str, Any], **rest: Any) -> tuple[Any, Any]:
        del rest
        if model.service_model.service_name == "s3":
            parsed = self._s3(model.name, params)
        else:
            request = json.loads(params["body"])
            self.asked.append((model.name, request))
            parsed = getattr(self, f"_{model.name}")(request)
        return type("Response", (), {"status_code": 200})(), parsed

    def _s3(self, operation: str, params: dict[str, Any]) -> Any:
        key = params["url"].partition(".com/")[2]
        if operation == "PutObject":
            body = params["body"]
            self.objects[key] = body if isinstance(body, bytes) else body.read()
            return {}
        if key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": key}}, operation)
        return {"Body": io.BytesIO(self.objects[key])}

    def _RunTask(self, request: dict[str, Any]) -> Any:  # noqa: N802 - boto3's name
        if error := self.refuse(request):
            raise ClientError({"Error": {"Code": "ClientException", "Message": error}}, "RunTask")
        assert [each["name"] for each in request["overrides"]["containerOverrides"]] == [CONTAINER]
        started = [FakeTask(f"arn:task/c/{len(self.tasks) + n}", request) for n in range(request["count"])]
        if failure := self.fail(request):
            del started[-1]
            self.tasks += started
            return {"tasks": [{"taskArn": task.arn} for task in started], "failures": [{"reason": failure}]}
        self.tasks += started
        if self.answer_lost:
            raise ClientError({"Error": {"Code": "ServerException", "Message": "who knows"}}, "RunTask")
        return {"tasks": [{"taskArn": task.arn} for task in started], "failures": []}

    def _DescribeTasks(self, request: dict[str, Any]) -> Any:  # noqa: N802 - boto3's name
        self.turn(self)
        assert len(request["tasks"]) <= 100
        return {
            "tasks": [
                {
                    "taskArn": task.arn,
                    "lastStatus": task.status,
                    "stoppedReason": task.reason,
                    "stopCode": task.code,
                    "attachments": [{"details": [{"name": "privateIPv4Address", "value": "10.43.0.7"}]}],
                    "containers": [{"exitCode": task.exit_code} if task.exit_code is not None else {}],
                    "pullStartedAt": BEGAN,
                    "stoppedAt": BEGAN + timedelta(seconds=90),
                }
                for task in self.tasks
                if task.arn in request["tasks"]
            ]
        }

    def _ListTasks(self, request: dict[str, Any]) -> Any:  # noqa: N802 - boto3's name
        assert set(request) <= {"cluster", "startedBy"}, "startedBy must be the only filter"
        found = [task for task in self.tasks if task.request["startedBy"] == request["startedBy"]]
        return {"taskArns": [task.arn for task in found if task.status != "STOPPED"]}

    def _StopTask(self, request: dict[str, Any]) -> Any:  # noqa: N802 - boto3's name
        if not self.stops:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}, "StopTask")
        for task in self.tasks:
            if task.arn == request["task"]:
                task.stop(request["reason"], "UserInitiated", 143)
        return {"task": {}}

    def _GetLogEvents(self, request: dict[str, Any]) -> Any:  # noqa: N802 - boto3's name
        lines = self.lines.get(request["logStreamName"], [])
        first = int(request.get("nextToken", "0"))
        return {"events": [{"message": line} for line in lines[first:]], "nextForwardToken": str(len(lines))}


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "workload": "encoder",
        "endpoint": "e",
        "location": "aws",
        "machine": "Fargate",
        "target": SageMakerTarget(endpoint="e", variant="AllTraffic"),
        "feed": "",
        "level": 25,
        "seconds": 10,
    }
    return Plan(**{**values, **changes})


def ordinary_course(account: FakeAccount) -> None:
    """The master listens, its workers come, a second passes, and there is a result."""
    if not account.lines:
        account.say(account.master, "a warning of some library")
        account.tell(event="listening", port=5557)
    elif account.of("worker") and len(account.lines.get("load-test/load/0", [])) == 2:
        account.tell(event="connected", workers=1)
        account.tell(event="second", second=0)
    elif account.of("worker"):
        account.objects[account.master.environment["LOAD_TEST_RESULT"].removeprefix("s3://artifacts/")] = (
            ordinary().model_dump_json().encode()
        )
        for task in account.tasks:
            task.stop("Essential container exited")
