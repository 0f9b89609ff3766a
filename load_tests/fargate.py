"""Run a load test on the LoadTestStack: a master and workers as Fargate tasks, all of them stopped afterwards."""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from containers.load_test.contract import PORT
from load_tests.closed_loop import Request
from load_tests.fargate_tasks import Cluster, NoCapacityError, Output, Task, Tasks, no_capacity
from load_tests.launch import FEED, PLAN, RESULT, Event, LoadTestError
from load_tests.payloads.file import read_document, write_document, write_feed
from load_tests.plan import Plan
from load_tests.result import LoadResult

_START_SECONDS = 900.0
"""Time limit for tasks to be placed, pull their image and start; on Fargate this takes about one minute."""
_AFTER_SECONDS = 180.0
_POLL_SECONDS = 2.0
_LOCAL_POLL_SECONDS = 0.2
_REASON = "the load test is over"


@dataclass(frozen=True, slots=True)
class Capacity:
    """Fargate capacity of the workers.

    spot: run them on Spot capacity.
    on_demand_instead: run them at full price when there is no Spot capacity.
    """

    spot: bool
    on_demand_instead: bool


@dataclass(frozen=True, slots=True)
class FargateRun:
    """Result of a load test, with its tasks and their billed time.

    url: folder with the test's plan, requests and result.
    """

    result: LoadResult
    tasks: tuple[Task, ...]
    url: str


def run(
    plan: Plan,
    requests: Iterable[Request],
    folder: Path,
    cluster: Cluster,
    capacity: Capacity,
    on_event: Callable[[Event], object] = lambda _event: None,
    on_note: Callable[[str], object] = lambda _text: None,
) -> FargateRun:
    """Run the plan with these requests, and also leave its result in `folder`.

    Sets Plan.feed. Every task has been stopped when this returns or raises. Ctrl-C, SIGTERM and SIGHUP raise
    KeyboardInterrupt. Raises LoadTestError; errors of the client library pass through.
    on_event: receives load_tests.launch's events, and `status` events with a `text`.
    on_note: receives messages for the user.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    url = f"{cluster.results}{plan.endpoint}/{name}"
    plan = plan.model_copy(update={"feed": f"{url}/{FEED}", "connect": _START_SECONDS})
    tasks = Tasks(cluster, f"load-test/{name}", _LOCAL_POLL_SECONDS if plan.location == "local" else _POLL_SECONDS)
    with _interruptible():
        write_feed(plan.feed, requests)
        write_document(f"{url}/{PLAN}", plan.model_dump_json(indent=1) + "\n")
        try:
            _Run(plan, url, tasks, capacity, on_event, on_note).run()
        except KeyboardInterrupt:
            on_note("interrupted: stopping the tasks")
            raise
        finally:
            on_event({"event": "status", "text": "stopping the tasks"})
            ended = tasks.stop(_REASON, on_note)
        text = read_document(f"{url}/{RESULT}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(text)
    return FargateRun(LoadResult.model_validate_json(text), tuple(ended), url)


class _Run:
    def __init__(
        self,
        plan: Plan,
        url: str,
        tasks: Tasks,
        capacity: Capacity,
        on_event: Callable[[Event], object],
        on_note: Callable[[str], object],
    ) -> None:
        self._plan, self._tasks, self._capacity = plan, tasks, capacity
        self._on_event, self._on_note = on_event, on_note
        self._documents = {"LOAD_TEST_PLAN": f"{url}/{PLAN}", "LOAD_TEST_RESULT": f"{url}/{RESULT}"}
        self._connected = False
        self._lost: set[str] = set()

    def run(self) -> None:
        """Run until the master has written a result."""
        # In the local account, all tasks share one loopback address, so the master picks a free port.
        own = "127.0.0.1:0" if self._plan.location == "local" else f"*:{PORT}"
        self._status("starting the master")
        (master,) = self._tasks.start("master", 1, {**self._documents, "LOAD_TEST_MASTER": own}, spot=False)
        output = self._tasks.output(master)
        address = self._listening(master, output)
        self._status(f"starting {self._plan.workers} workers")
        self._start_workers(self._plan.workers, {**self._documents, "LOAD_TEST_MASTER": address})
        self._follow(master, output, address)

    def _listening(self, master: str, output: Output) -> str:
        deadline = time.monotonic() + _START_SECONDS
        port: int | None = None
        while True:
            task = self._look().get(master)
            for event in output.events():
                port = int(event["port"]) if event["event"] == "listening" else port
            if task is not None and task.stopped:
                raise LoadTestError(self._tasks.stopped_because(task, output))
            if task is not None and task.address is not None and port is not None:
                return f"{task.address}:{port}"
            if time.monotonic() > deadline:
                state = task.status if task is not None else "unknown to ECS"
                raise LoadTestError(f"the master is not listening after {_START_SECONDS:g} s: its task is {state}")
            time.sleep(self._tasks.poll_seconds)

    def _start_workers(self, count: int, environment: dict[str, str]) -> None:
        before = self._tasks.count("worker")
        try:
            self._tasks.start("worker", count, environment, spot=self._capacity.spot)
        except NoCapacityError as error:
            if not (self._capacity.spot and self._capacity.on_demand_instead):
                raise self._shortage(str(error)) from error
            left = count - (self._tasks.count("worker") - before)
            self._on_note(f"no Fargate Spot capacity: running {left} of the workers at full price")
            self._tasks.start("worker", left, environment, spot=False)

    def _shortage(self, words: str) -> LoadTestError:
        kind = "Fargate Spot" if self._capacity.spot else "Fargate"
        fix = ", or set load_test.without_spot: on_demand, or load_test.spot: false" if self._capacity.spot else ""
        return LoadTestError(f"no {kind} capacity for the workers: {words}; try again later{fix}")

    def _follow(self, master: str, output: Output, address: str) -> None:
        """Pass events on until the master ends; a worker that ends before all are connected ends the test."""
        plan = self._plan
        deadline = time.monotonic() + 2 * _START_SECONDS + plan.warm_up + plan.seconds + plan.timeout + _AFTER_SECONDS
        while True:
            tasks = self._look()
            for event in output.events():
                self._connected |= event["event"] == "connected"
                self._on_event(event)
            task = tasks.get(master)
            if task is not None and task.stopped:
                break
            self._check_workers(list(tasks.values()), address)
            if time.monotonic() > deadline:
                raise LoadTestError(
                    "the master still runs after the test's time is over: gave up waiting for its result"
                )
            time.sleep(self._tasks.poll_seconds)
        # The master exits with 0 or 1 when there is a result (load_tests.swarm).
        if task.exit_code not in (0, 1):
            raise LoadTestError(self._tasks.stopped_because(task, output))

    def _check_workers(self, tasks: list[Task], address: str) -> None:
        ended = [task for task in tasks if task.role == "worker" and task.stopped and task.arn not in self._lost]
        self._lost |= {task.arn for task in ended}
        if self._connected:
            for task in ended:
                if task.stop_code == "SpotInterruption":
                    self._on_note(f"Fargate Spot reclaimed a worker: {task.why()}")
                elif task.exit_code:
                    self._on_note(f"a worker was lost: {self._tasks.stopped_because(task, seconds=0)}")
            return
        short = [task for task in ended if no_capacity(task)]
        for task in ended:
            if task not in short:
                raise LoadTestError(self._tasks.stopped_because(task))
        if short and not (self._capacity.on_demand_instead and all(task.spot for task in short)):
            raise self._shortage(short[0].reason)
        if short:
            self._on_note(f"no Fargate Spot capacity: running {len(short)} of the workers at full price")
            environment = {**self._documents, "LOAD_TEST_MASTER": address}
            self._tasks.start("worker", len(short), environment, spot=False)

    def _look(self) -> dict[str, Task]:
        tasks = {task.arn: task for task in self._tasks.look()}
        if not self._connected and tasks:
            running = sum(task.status == "RUNNING" for task in tasks.values())
            self._status(f"{running} of {1 + self._plan.workers} tasks running")
        return tasks

    def _status(self, text: str) -> None:
        self._on_event({"event": "status", "text": text})


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block like Ctrl-C; after the first signal, further ones are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in received:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in received}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
