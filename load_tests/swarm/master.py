"""The master: start the users once all workers are connected, end the test, and write the result."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import gevent
import locust.runners
from locust import LoadTestShape, User
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import STATE_MISSING, MasterRunner

from load_tests.collect import Collector
from load_tests.payloads.file import write_document
from load_tests.plan import Plan
from load_tests.result import LoadResult
from load_tests.swarm.messages import BEGIN, FINAL, FINISH, LISTENS, REPORT
from load_tests.swarm.users import user_class

_LOOK_SECONDS = 0.2
_FINAL_SECONDS = 10.0
_HEARTBEATS = 6
"""Seconds without a heartbeat after which a worker counts as missing; Locust's default of 3 is too few on a busy
machine."""


class NoWorkersError(RuntimeError):
    """Workers did not all connect, or all of them left before there was a result; the message says which."""


class _Levels(LoadTestShape):
    """Number of users over time, following the plan's course."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.start_time = time.perf_counter()

    def tick(self) -> tuple[int, float]:
        """Return the number of users and the spawn rate; the master ends the test itself."""
        second = min(time.perf_counter() - self.start_time, self._plan.course.seconds - 1e-6)
        return round(self._plan.course.at(second)), self._plan.spawn_rate


def run(plan: Plan, host: str, port: int, result: str) -> LoadResult:
    """Run the test and write its result to a path or s3:// URL; port 0 picks a free port and announces it on stdout.

    Raises NoWorkersError; errors of the file system and the client library pass through.
    """
    locust.runners.HEARTBEAT_LIVENESS = _HEARTBEATS
    kind: type[User] = user_class(plan)
    environment = Environment(user_classes=[kind], shape_class=_Levels(plan) if plan.mode == "closed" else None)
    runner = environment.create_master_runner(host, port)
    test = _Test(plan, environment, runner)
    tell(event="listening", port=runner.server.port)
    try:
        outcome = test.run()
    finally:
        runner.quit()
    write_document(result, outcome.model_dump_json(indent=1) + "\n")
    return outcome


class _Test:
    def __init__(self, plan: Plan, environment: Environment, runner: MasterRunner) -> None:
        self._plan, self._environment, self._runner = plan, environment, runner
        self._collector = Collector(plan)
        self._last_told = -1
        self._listening: set[str] = set()
        runner.register_message(LISTENS, self._on_listening)

    def run(self) -> LoadResult:
        self._wait_for_workers()
        clients = sorted(self._runner.clients)
        began = datetime.now(UTC)
        for client in clients:
            self._collector.connected(client)
        self._environment.events.worker_report.add_listener(self._on_report)
        self._runner.register_message(FINAL, self._on_final)
        self._runner.send_message(BEGIN, {"numbers": {client: number for number, client in enumerate(clients)}})
        zero = time.perf_counter()
        self._start()
        ended = self._watch(zero)
        self._finish()
        return self._collector.result(began, ended)

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + self._plan.connect
        while (connected := self._connected()) < self._plan.workers:
            if time.monotonic() > deadline:
                raise NoWorkersError(
                    f"{connected} of {self._plan.workers} workers connected within {self._plan.connect:g} s: see the "
                    "logs of the other workers, and check that they can reach the master's port"
                )
            gevent.sleep(0.05)
        tell(event="connected", workers=self._plan.workers)

    def _connected(self) -> int:
        """Count the workers that will receive the message that begins the test."""
        return sum(client.id in self._listening for client in self._runner.clients.ready)

    def _start(self) -> None:
        if self._plan.mode == "closed":
            self._runner.start_shape()
        else:
            gevent.spawn(self._runner.start, self._plan.workers, self._plan.workers)

    def _watch(self, zero: float) -> float:
        """Wait until the time is up, the requests are done or no worker is left; return the elapsed seconds."""
        plan = self._plan
        while (now := time.perf_counter() - zero) < plan.warm_up + plan.seconds:
            self._collector.users(self._runner.user_count)
            self._tell_progress(int(now))
            if plan.requests is not None and self._collector.done >= plan.requests:
                break
            if not self._runner.worker_count:
                break
            gevent.sleep(_LOOK_SECONDS)
        return time.perf_counter() - zero

    def _finish(self) -> None:
        if self._runner.shape_greenlet is not None:
            self._runner.shape_greenlet.kill(block=True)
            self._runner.shape_greenlet = None
        self._runner.send_message(FINISH, {"seconds": self._plan.timeout})
        deadline = time.monotonic() + self._plan.timeout + _FINAL_SECONDS
        while self._awaited() and time.monotonic() < deadline:
            gevent.sleep(0.05)

    def _awaited(self) -> bool:
        """Return whether a worker that still sends heartbeats has yet to send its final report."""
        clients = self._runner.clients
        return any(name in clients and clients[name].state != STATE_MISSING for name in self._collector.unfinished)

    def _on_report(self, client_id: str, data: dict[str, Any], **_rest: Any) -> None:
        if REPORT in data:
            self._collector.add(client_id, data[REPORT])

    def _on_listening(
        self,
        environment: Environment,  # noqa: ARG002 - Locust passes it by name
        msg: Message,
        **_rest: Any,
    ) -> None:
        self._listening.add(msg.node_id)

    def _on_final(
        self,
        environment: Environment,  # noqa: ARG002 - Locust passes it by name
        msg: Message,
        **_rest: Any,
    ) -> None:
        self._collector.add(msg.node_id, msg.data, final=True)

    def _tell_progress(self, now: int) -> None:
        # Workers report once a second, so only the second before the previous one is complete for all of them.
        last = self._collector.last_second(after=self._last_told, before=now - 1)
        if last is not None:
            self._last_told = last.second
            tell(event="second", workers=self._runner.worker_count, **last.model_dump())


def tell(**event: Any) -> None:
    """Write an event as one line of JSON to standard output, for the process that started this one."""
    json.dump(event, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
