"""A worker: it runs users when the master says so, and reports what they saw once a second."""

from typing import Any

import gevent
import locust.runners
from locust.env import Environment
from locust.rpc.protocol import Message

from load_tests.feed import read_feed
from load_tests.plan import Plan
from load_tests.recorder import Recorder
from load_tests.swarm.messages import BEGIN, FINAL, FINISH, LISTENS, REPORT, REPORT_SECONDS
from load_tests.swarm.senders import sender
from load_tests.swarm.station import Station
from load_tests.swarm.users import user_class


def run(plan: Plan, host: str, port: int) -> None:
    """Connects to the master and works until it says that all is over.

    Errors of the file system, the client library and the feed pass through before it connects.
    """
    station = Station(plan, read_feed(plan.feed), sender(plan), Recorder(plan.warm_up, plan.seconds))
    kind = user_class(plan)
    kind.station = station
    locust.runners.WORKER_REPORT_INTERVAL = REPORT_SECONDS
    environment = Environment(user_classes=[kind])
    runner = environment.create_worker_runner(host, port)

    def begin(environment: Environment, msg: Message, **rest: Any) -> None:
        del environment, rest
        station.begin(int(msg.data["numbers"][runner.client_id]))
        gevent.spawn(station.look)

    def finish(environment: Environment, msg: Message, **rest: Any) -> None:
        del environment, rest
        station.closing = True
        deadline = station.recorder.now + float(msg.data["seconds"])
        while station.in_flight and station.recorder.now < deadline:
            gevent.sleep(0.01)
        runner.send_message(FINAL, station.recorder.take())

    def report(client_id: str, data: dict[str, Any], **rest: Any) -> None:
        del client_id, rest
        data[REPORT] = station.recorder.take()

    runner.register_message(BEGIN, begin)
    runner.register_message(FINISH, finish, concurrent=True)
    environment.events.report_to_master.add_listener(report)
    runner.send_message(LISTENS)
    runner.greenlet.join()
