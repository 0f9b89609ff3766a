"""A worker: run users at the master's command, and report their results once a second."""

from typing import Any

import gevent
import locust.runners
from locust.env import Environment
from locust.rpc.protocol import Message

from load_tests.payloads.file import read_feed
from load_tests.plan import Plan
from load_tests.recorder import Recorder
from load_tests.swarm.messages import BEGIN, FINAL, FINISH, LISTENS, REPORT, REPORT_SECONDS
from load_tests.swarm.senders import sender
from load_tests.swarm.users import user_class
from load_tests.swarm.worker_state import WorkerState


def run(plan: Plan, host: str, port: int) -> None:
    """Connect to the master and work until it ends the test.

    Errors of the file system, the client library and the feed pass through before it connects.
    """
    worker = WorkerState(plan, read_feed(plan.feed), sender(plan), Recorder(plan.warm_up, plan.seconds))
    kind = user_class(plan)
    kind.worker = worker
    locust.runners.WORKER_REPORT_INTERVAL = REPORT_SECONDS
    environment = Environment(user_classes=[kind])
    runner = environment.create_worker_runner(host, port)

    def begin(
        environment: Environment,  # noqa: ARG001 - Locust passes it by name
        msg: Message,
        **_rest: Any,
    ) -> None:
        worker.start(int(msg.data["numbers"][runner.client_id]))
        gevent.spawn(worker.monitor)

    def finish(
        environment: Environment,  # noqa: ARG001 - Locust passes it by name
        msg: Message,
        **_rest: Any,
    ) -> None:
        worker.closing = True
        deadline = worker.recorder.now + float(msg.data["seconds"])
        while worker.in_flight and worker.recorder.now < deadline:
            gevent.sleep(0.01)
        runner.send_message(FINAL, worker.recorder.take())

    def report(
        client_id: str,  # noqa: ARG001 - Locust passes it by name
        data: dict[str, Any],
        **_rest: Any,
    ) -> None:
        data[REPORT] = worker.recorder.take()

    runner.register_message(BEGIN, begin)
    runner.register_message(FINISH, finish, concurrent=True)
    environment.events.report_to_master.add_listener(report)
    runner.send_message(LISTENS)
    runner.greenlet.join()
