"""Send generated requests to a server, and check every response."""

import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tools.fuzz.generate import Surface, malformed
from tools.fuzz.neighbor import Neighbor
from tools.fuzz.servers import Running
from tools.fuzz.wire import Connection, Reply, Request, WireError, replies_to

ANSWER_SECONDS = 30.0
"""Response timeout. It is generous, because the goal is to find responses that never come."""
SILENCE_SECONDS = 15.0
"""Longest time that a server may keep a connection open after the client has ended its request."""
GROWTH_MIB = 96.0
"""Allowed growth of a server's memory from the end of its warm-up to the end of the run."""
PEAK_MIB = 400.0
"""Allowed growth of a server's memory over its warm-up at any time: enough for some of the largest requests at once."""
_SETTLE_SECONDS = 1.0
_CROWD = 40
"""Clients that send a body of the largest size at the same time."""
_BATCH = 1000
_SHRINK_SECONDS = 60.0
"""Time limit for finding a smaller request with the same violation."""
_WARM_UP = 0.1
_PROTOCOL_ERROR = re.compile(rb"Invalid HTTP request received\.?|Invalid host header|")
_LEAKS = (b"Traceback (most recent call last)", b'File "/', b"site-packages")


class Violation(AssertionError):  # noqa: N818 - names a violation of the contract, not an error of this program
    """A response that no container may send."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation, and the bytes that cause it; `seed` generates them again."""

    container: str
    what: str
    raw: bytes
    seed: int


@dataclass(slots=True)
class Report:
    """Measurements of one container's run.

    worst: slowest response, in seconds. neighbor: slowest small request among the hostile ones, in seconds. before,
    after, peak: memory of its processes, in MiB.
    """

    container: str
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    connections: int = 0
    routes: set[str] = field(default_factory=set)
    worst: float = 0.0
    neighbor: float = 0.0
    before: float = 0.0
    after: float = 0.0
    peak: float = 0.0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def of_class(self, hundreds: int) -> int:
        """Return the number of responses in a class, such as 2 for 200 to 299."""
        return sum(count for status, count in self.statuses.items() if status // 100 == hundreds)


@dataclass(frozen=True, slots=True)
class Probe:
    """A request with a constant response. before: requests to send first. after: requests that must get 200 last."""

    request: Request
    before: tuple[Request, ...] = ()
    after: tuple[Request, ...] = ()

    def ask(self, running: Running) -> bytes:
        """Send the request, and return the response's body; raise Violation unless the status is 200."""
        with Connection(running.port, ANSWER_SECONDS) as connection:
            for each in self.before:
                connection.ask(each)
            reply = connection.ask(self.request)
        if reply.status != 200:
            raise Violation(f"a valid request got {reply.status}: {reply.body[:200]!r}")
        return reply.body


def judge(request: Request, reply: Reply) -> None:
    """Raise Violation for a response that is neither a success nor a documented refusal."""
    if any(leak in reply.body for leak in _LEAKS):
        raise Violation(f"the response reveals the server's own code: {reply.body[:300]!r}")
    if reply.status >= 500:
        _judge_overload(request, reply)
    if not (200 <= reply.status < 300 or reply.status >= 400):
        raise Violation(f"the status is {reply.status}, which SageMaker's contract does not have")
    if request.method == "HEAD":
        return
    kind = reply.headers.get("content-type", "")
    if reply.status >= 400:
        if reply.status == 400 and _PROTOCOL_ERROR.fullmatch(reply.body):
            return
        try:
            error = json.loads(reply.body)["error"]
            complete = bool(error["code"] and error["message"])
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise Violation(f"a {reply.status} without a code and a message in JSON: {reply.body[:200]!r}")
    elif kind.startswith("application/json"):
        with _as_violation("a 200 with invalid JSON"):
            json.loads(reply.body, parse_constant=_no_constant)


def _judge_overload(request: Request, reply: Reply) -> None:
    if reply.status == 503 and reply.headers.get("retry-after", "").isdecimal():
        return
    # The contract's own response if a model does not fit in memory.
    if reply.status == 507 and (request.method, request.path.partition("?")[0]) == ("POST", "/models"):
        return
    raise Violation(f"the status is {reply.status}: {reply.body[:300]!r}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@contextlib.contextmanager
def _as_violation(what: str) -> Any:
    try:
        yield
    except ValueError as error:
        raise Violation(f"{what}: {error}") from error


class Run:
    """One container's run of `requests` generated requests, of which a `share` have invalid framing.

    hostile: requests that use much time or memory, a fiftieth of all. crowd: a request that many clients send at once.
    """

    def __init__(
        self, running: Running, surface: Surface, probe: Probe, hostile: st.SearchStrategy[Request], crowd: Request,
        *, requests: int, share: float, first_seed: int,
    ) -> None:  # fmt: skip
        self._running, self._surface, self._probe = running, surface, probe
        self._hostile, self._crowd = hostile, crowd
        self._broken = round(requests * share)
        self._taking = max(20, requests // 50)
        self._whole = max(1, requests - self._broken - self._taking)
        self._seed = first_seed
        self.report = Report(running.server.name)
        self._connection = Connection(running.port, ANSWER_SECONDS)
        self._asked: list[bytes] = []
        self._report_progress: Callable[[int], object] = lambda _: None

    def run(self, report_progress: Callable[[int], object] = lambda _: None) -> Report:
        """Run everything. report_progress: called with the number of requests sent since the last call."""
        self._report_progress = report_progress
        report, began = self.report, time.monotonic()
        right = self._probe.ask(self._running)
        self._batches(self._surface.requests(), self._ask, round(self._whole * _WARM_UP), right)
        report.before = self._running.memory_mib()
        with Neighbor(self._running, self._probe.request) as neighbor:
            self._batches(self._surface.requests(), self._ask, self._whole - report.requests, right)
            self._batches(malformed(self._surface), self._send_malformed, self._broken, right)
            self._batches(self._hostile, self._ask, self._taking, right)
            self._send_crowd()
            self._finish()
        self._connection.close()
        # Memory freed on threads returns to the system a moment later.
        time.sleep(_SETTLE_SECONDS)
        report.after, report.seconds = self._running.memory_mib(), time.monotonic() - began
        report.neighbor, report.peak = neighbor.worst, neighbor.peak_mib
        if neighbor.wrong is not None:
            report.findings.append(Finding(report.container, neighbor.wrong, b"", self._seed))
        if report.peak > report.before + PEAK_MIB:
            what = f"its memory peaked at {report.peak:.0f} MiB, from {report.before:.0f} MiB after the warm-up"
            report.findings.append(Finding(report.container, what, b"", self._seed))
        if report.after > report.before + GROWTH_MIB:
            what = f"its memory grew from {report.before:.0f} to {report.after:.0f} MiB"
            report.findings.append(Finding(report.container, what, b"", self._seed))
        if b"Traceback" in (log := self._running.log.read_bytes()):
            what = "its log has a traceback: " + log[log.index(b"Traceback") :][:1500].decode(errors="replace")
            report.findings.append(Finding(report.container, what, b"", self._seed))
        return report

    def _send_crowd(self) -> None:
        """Send the same large request from many clients at once; each must be served or refused."""

        def ask(_: int) -> Reply:
            with Connection(self._running.port, ANSWER_SECONDS) as connection:
                return connection.ask(self._crowd)

        with ThreadPoolExecutor(_CROWD) as threads:
            for future in [threads.submit(ask, number) for number in range(_CROWD)]:
                try:
                    reply = future.result()
                    self._count(self._crowd.path, [reply])
                    judge(self._crowd, reply)
                except (WireError, Violation) as error:
                    self.report.findings.append(
                        Finding(self.report.container, f"of {_CROWD} at once: {error}", self._crowd.raw(), self._seed)
                    )
                    return

    def _finish(self) -> None:
        """Send requests that must get 200 whatever came before."""
        for request in self._probe.after:
            reply = self._connection.ask(request)
            if reply.status != 200:
                what = f"{request.method} {request.path} got {reply.status} at the end: {reply.body[:200]!r}"
                self.report.findings.append(Finding(self.report.container, what, request.raw(), self._seed))

    def _batches(
        self, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], count: int, right: bytes
    ) -> None:
        end = self.report.requests + count
        while (left := end - self.report.requests) > 0 and len(self.report.findings) < 5:
            self._seed += 1
            failing: list[tuple[bytes, str]] = []
            before = self.report.requests

            examples = settings(
                max_examples=min(left, _BATCH), database=None, deadline=None, print_blob=False,
                suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
                report_multiple_bugs=False,
            )  # fmt: skip
            try:
                seed(self._seed)(examples(given(strategy)(self._noting(check, failing))))()
                self._probe_again(right)
            except (Violation, Flaky):
                # The last failure is the smallest example.
                raw, what = failing[-1]
                self.report.findings.append(Finding(self.report.container, what, raw, self._seed))
            if self.report.requests == before:
                raise RuntimeError("nothing was generated")

    def _noting(self, check: Callable[[Any], None], failing: list[tuple[bytes, str]]) -> Callable[[Any], None]:
        deadline = float("inf")

        def ask(example: Any) -> None:
            nonlocal deadline
            if time.monotonic() > deadline:
                return
            self._asked.clear()
            try:
                check(example)
            except Violation as violation:
                failing.append((b"".join(self._asked), str(violation)))
                deadline = min(deadline, time.monotonic() + _SHRINK_SECONDS)
                raise

        return ask

    def _probe_again(self, right: bytes) -> None:
        body = self._probe.ask(self._running)
        if body != right:
            what = f"a request whose response was {right[:80]!r} now gets {body[:80]!r}"
            self.report.findings.append(Finding(self.report.container, what, self._probe.request.raw(), self._seed))

    def _count(self, path: str, replies: list[Reply]) -> None:
        self.report.requests += 1
        self._report_progress(1)
        self.report.routes.add(_route(path))
        for reply in replies:
            self.report.statuses[reply.status] += 1
            self.report.worst = max(self.report.worst, reply.seconds)

    def _ask(self, request: Request) -> None:
        self._asked.append(request.raw())
        try:
            reply = self._connection.ask(request)
        except WireError as error:
            self._count(request.path, [])
            raise self._dead(error) from error
        self._count(request.path, [reply])
        judge(request, reply)

    def _send_malformed(self, raw: bytes) -> None:
        self._asked.append(raw)
        self.report.connections += 1
        try:
            with self._running.connect(SILENCE_SECONDS) as connection:
                replies = replies_to(connection, raw, SILENCE_SECONDS, end=True)
        except (WireError, OSError) as error:
            self._count("malformed", [])
            raise self._dead(error) from error
        self._count("malformed", replies)
        for reply in replies:
            if any(leak in reply.body for leak in _LEAKS):
                raise Violation(f"the response reveals the server's own code: {reply.body[:300]!r}")
            if reply.status >= 500 and not (reply.status == 503 and "retry-after" in reply.headers):
                raise Violation(f"the status is {reply.status}: {reply.body[:300]!r}")
        if not self._running.alive:
            raise self._dead(WireError("the connection ended"))

    def _dead(self, error: Exception) -> Violation:
        """Return the violation; restart a dead server, so a smaller request can be searched for."""
        if self._running.alive:
            return Violation(str(error))
        code = self._running.exit_code
        self._running.restart()
        self._connection = Connection(self._running.port, ANSWER_SECONDS)
        return Violation(f"the server ended with exit code {code}: {error}")


def _route(path: str) -> str:
    """Return the path without its query, and with a placeholder for each number and name."""
    path = path.partition("?")[0]
    for pattern, name in (
        (r"^/models/[^/]+/invoke$", "/models/{name}/invoke"),
        (r"^/models/[^/]+$", "/models/{name}"),
        (r"^/predictions_neuron_core_[^/]+/model_[^/]+$", "/predictions_neuron_core_{core}/model_{model}"),
    ):
        if re.match(pattern, path):
            return name
    return path if path in ("/ping", "/invocations", "/models", "/metrics", "malformed") else "other"


def save(findings: list[Finding], folder: Path) -> list[Path]:
    """Write the findings' requests, in hex, one file each, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, finding in enumerate(findings):
        path = folder / f"{finding.container}-{number}.hex"
        text = os.linesep.join(finding.raw.hex()[begin : begin + 100] for begin in range(0, 2 * len(finding.raw), 100))
        path.write_text(f"# {finding.container}, seed {finding.seed}: {finding.what}\n{text}\n")
        written.append(path)
    return written
