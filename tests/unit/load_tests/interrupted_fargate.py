"""A load test on Fargate that gets a signal twice, and what was seen: for a process of its own, which it is sent to.

`python -m tests.unit.load_tests.interrupted_fargate SIGNAL FOLDER` prints a Seen as JSON.
"""

import json
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3

from load_tests import fargate
from tests.unit.load_tests.fake_fargate import CLUSTER, REQUESTS, SPOT, FakeAccount, ordinary_course, plan

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Seen:
    """signals: sent, while the test went on and while its tasks were stopped. stopped: why, of each task that was."""

    signals: int
    interrupted: bool
    stopped: list[str]
    notes: list[str]
    handlers_are_back: bool


def interrupted(received: signal.Signals, folder: Path) -> Seen:
    """A load test by twelve workers that gets the signal once all are connected, and again while it stops them."""
    account = FakeAccount(ordinary_course)
    notes: list[str] = []
    sent = 0

    def interrupt(event: Any) -> None:
        nonlocal sent
        if event["event"] == "connected" or event.get("text") == "stopping the tasks":
            account.turn = lambda _fake: None
            sent += 1
            signal.raise_signal(received)

    before = [signal.getsignal(each) for each in _HANDLED]
    ended_by_it = False
    with patch.object(boto3, "client", account.client), patch.object(fargate, "_POLL_SECONDS", 0.001):
        try:
            fargate.run(plan(workers=12), REQUESTS, folder, CLUSTER, SPOT, interrupt, notes.append)
        except KeyboardInterrupt:
            ended_by_it = True
    return Seen(
        signals=sent,
        interrupted=ended_by_it,
        stopped=[task.reason for task in account.tasks if task.status == "STOPPED"],
        notes=notes,
        handlers_are_back=[signal.getsignal(each) for each in _HANDLED] == before,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(interrupted(signal.Signals[sys.argv[1]], Path(sys.argv[2])))))
