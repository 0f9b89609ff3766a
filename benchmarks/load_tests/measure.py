"""Runs of the benchmark: a stall in both loops, rates up to and above the server's limit, and clients at full speed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from load_tests.closed_loop import Request
from load_tests.gates import with_defaults
from load_tests.launch import LoadTestError, run
from load_tests.plan import HttpTarget, Plan, SageMakerTarget
from load_tests.result import LoadResult

EVERY, STALL, SERVICE = 10.0, 1.0, 0.001
STALL_RATE, STALL_USERS = 100.0, 4
RATES = (50.0, 200.0, 500.0)
CAPACITY, BEYOND = 100.0, 200.0
CLIENT_USERS = 16
CLIENTS = ("boto3", "fast", "http")
BUSY = 0.9
"""Utilization of a worker's core above which the client itself limits the rate."""
ATTEMPTS = 3
_ROW = b"170,0,0,0,86.817,86.8737,17.003,204.916,121.905,15.4492,141.918,97.2127,8.57152,6.78418,5.95732,2.96084,2,2"
_REQUESTS = [Request(body=_ROW, content_type="text/csv", target_model="churn-xgb-AL.tar.gz")]
_TARGET = SageMakerTarget(endpoint="stub", variant="AllTraffic")


def predicted_p99_ms(every: float = EVERY, stall: float = STALL) -> float:
    """Predict the P99 in an open loop of a server with such stalls, neglecting its service time.

    A fraction stall/every of evenly spread arrivals finds it stalled, and waits for a uniformly drawn part of the
    stall.
    """
    return max(0.0, stall - 0.01 * every) * 1000


@contextmanager
def stub(*options: str) -> Iterator[str]:
    """Run the server in a separate process and yield its URL."""
    with subprocess.Popen([sys.executable, "-m", "load_tests.stub", *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            if not line:
                raise BenchmarkError("the stub did not start: see what it wrote")
            yield f"http://127.0.0.1:{json.loads(line)['port']}"
        finally:
            process.terminate()


def stalls(folder: Path, seconds: float, done: Callable[[], object]) -> tuple[LoadResult, LoadResult]:
    """Run the closed and the open loop, each on its own server that stalls."""
    options = ("--service", str(SERVICE), "--every", str(EVERY), "--stall", str(STALL))
    changes: tuple[dict[str, Any], ...] = (
        {"mode": "closed", "level": STALL_USERS},
        {"mode": "open", "level": STALL_RATE},
    )
    results = []
    for change in changes:
        with stub(*options) as url:
            results.append(_run(folder, url, seconds=seconds, **change))
        done()
    return results[0], results[1]


def rates(folder: Path, seconds: float, done: Callable[[], object]) -> list[LoadResult]:
    """Run open loops at rates that the server can sustain, and at twice its limit."""
    results = []
    for rate in RATES:
        with stub("--service", str(SERVICE)) as url:
            results.append(_run(folder, url, seconds=seconds, mode="open", level=rate))
        done()
    with stub("--service", str(1 / CAPACITY)) as url:
        results.append(_run(folder, url, seconds=seconds, mode="open", level=BEYOND, max_in_flight=100))
    done()
    return results


def clients(folder: Path, seconds: float, done: Callable[[], object]) -> dict[str, list[LoadResult]]:
    """Run each client in a closed loop on one worker at full speed, on a server with no service time.

    A run whose core was not busy says nothing about the client, because another process had the processor. Such a run
    is repeated, up to ATTEMPTS runs, whatever its rate was. Every run is kept, and the last one counts.
    """
    results: dict[str, list[LoadResult]] = {}
    for client in CLIENTS:
        runs = results.setdefault(client, [])
        while len(runs) < ATTEMPTS and not (runs and client_is_the_limit(runs[-1])):
            with stub() as url:
                changes: dict[str, Any] = {"client": client}
                if client == "http":
                    target = HttpTarget(urls=(url,), paths=("/endpoints/stub/invocations",))
                    changes = {"target": target}
                runs.append(_run(folder, url, seconds=seconds, level=CLIENT_USERS, **changes))
        done()
    return results


def client_is_the_limit(result: LoadResult) -> bool:
    """Return whether the client limited a run's rate."""
    return result.saturation.cpu_mean > BUSY


def _run(folder: Path, url: str, **changes: Any) -> LoadResult:
    values: dict[str, Any] = {
        "workload": "tabular",
        "endpoint": "stub",
        "location": "local",
        "machine": "",
        "target": _TARGET,
        "feed": "",
        "client": "fast",
        "warm_up": 2,
        "spawn_rate": 100,
        "gates": with_defaults([], changes.get("mode", "closed")),
    }
    credentials = {"AWS_ACCESS_KEY_ID": "stub", "AWS_SECRET_ACCESS_KEY": "stub", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(credentials, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=url)
    try:
        result = run(Plan(**{**values, **changes}), _REQUESTS, folder)
    except LoadTestError as error:
        raise BenchmarkError(str(error)) from error
    if not result.total.answered or result.workers_lost:
        raise BenchmarkError("a run has no answers, or lost its worker: see what it wrote")
    return result
