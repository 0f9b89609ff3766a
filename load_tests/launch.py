"""Run a load test on this machine: start a master and its workers as processes, and pass on the master's events."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from load_tests.closed_loop import Request
from load_tests.payloads.file import write_feed
from load_tests.plan import Plan
from load_tests.result import LoadResult

PLAN, FEED, RESULT = "plan.json", "feed.jsonl", "result.json"
_SWARM = [sys.executable, "-m", "load_tests.swarm"]
_ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 10.0
_LISTEN_SECONDS = 60.0

Event = Mapping[str, Any]
"""A message from the master: `event` is listening, connected or second; a second has the fields of result.Second."""


class LoadTestError(RuntimeError):
    """The load test produced no result; the message quotes the process that failed."""


def run(
    plan: Plan, requests: Iterable[Request], folder: Path, on_event: Callable[[Event], object] = lambda _event: None
) -> LoadResult:
    """Run the plan with these requests, and leave plan, requests, result and logs in `folder`.

    Sets Plan.feed. Every process has ended when this returns. Raises LoadTestError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    write_feed(str(folder / FEED), requests)
    plan = plan.model_copy(update={"feed": str(folder / FEED)})
    (folder / PLAN).write_text(plan.model_dump_json(indent=1) + "\n")
    with ExitStack() as stack:
        master_log = stack.enter_context((folder / "master.log").open("wb"))
        master = _start("master", folder, "127.0.0.1:0", master_log, stdout=subprocess.PIPE)
        stack.callback(_end, [master])
        events = _events(master)
        port = _listening(events, folder)
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, workers)
        for number in range(plan.workers):
            log = stack.enter_context((folder / f"worker-{number}.log").open("wb"))
            workers.append(_start("worker", folder, f"127.0.0.1:{port}", log))
        _follow(events, workers, folder, on_event)
        with suppress(subprocess.TimeoutExpired):
            master.wait(_STOP_SECONDS)
    if not (folder / RESULT).exists():
        raise LoadTestError(_reason(folder, "master.log"))
    return LoadResult.read(folder / RESULT)


def _start(
    role: str, folder: Path, address: str, log: BinaryIO, stdout: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    settings = {
        "LOAD_TEST_PLAN": str(folder / PLAN),
        "LOAD_TEST_RESULT": str(folder / RESULT),
        "LOAD_TEST_MASTER": address,
        "LOAD_TEST_PARENT": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    return subprocess.Popen(
        [*_SWARM, role], env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log
    )


def _events(master: "subprocess.Popen[bytes]") -> "queue.SimpleQueue[Event | None]":
    """Return a queue of the master's messages, with a None once it has ended."""
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    stdout = master.stdout
    assert stdout is not None

    def read() -> None:
        with stdout:
            for line in stdout:
                events.put(json.loads(line))
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    return events


def _listening(events: "queue.SimpleQueue[Event | None]", folder: Path) -> int:
    try:
        event = events.get(timeout=_LISTEN_SECONDS)
    except queue.Empty:
        event = None
    if event is None:
        raise LoadTestError(_reason(folder, "master.log"))
    return int(event["port"])


def _follow(
    events: "queue.SimpleQueue[Event | None]",
    workers: "list[subprocess.Popen[bytes]]",
    folder: Path,
    on_event: Callable[[Event], object],
) -> None:
    """Pass events on until the master ends; a worker that ends before all are connected ends the test."""
    connected = False
    while True:
        try:
            event = events.get(timeout=0.2)
        except queue.Empty:
            ended = [number for number, worker in enumerate(workers) if worker.poll() is not None]
            if ended and not connected:
                raise LoadTestError(_reason(folder, f"worker-{ended[0]}.log")) from None
            continue
        if event is None:
            return
        connected |= event["event"] == "connected"
        on_event(event)


def _end(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(folder: Path, log: str) -> str:
    lines = [line for line in (folder / log).read_text(errors="replace").splitlines() if line.strip()]
    return f"{log.removesuffix('.log')} ended: {' '.join(lines[-3:]) or 'it wrote nothing'}; see {folder / log}"
