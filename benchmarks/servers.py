"""Run the servers to compare: each is a process group on a loopback port that ends with its block."""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.closed_loop import Target
from benchmarks.errors import BenchmarkError
from benchmarks.memory import TreeMemory, tree_memory
from benchmarks.processes import last_lines, process_group
from containers.serving.contract import HOST_VARIABLE, PORT_VARIABLE
from local_aws.account import ROOT

PYTHON_VARIABLES: Mapping[str, str] = {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
"""Variables of every server in Python."""
_START_SECONDS = 120.0
_POLL_SECONDS = 0.02
_RESPONSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command that serves HTTP.

    name: name in error messages.
    variables: its complete environment.
    port: loopback port that the command and the variables make it listen on.
    folder: existing folder for its log.
    ready: path that responds once the server is ready.
    requests: complete requests that a client sends in turn.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    port: int
    folder: Path
    cwd: Path = ROOT
    ready: str = "/ping"
    requests: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    pid: its first process, which leads the group.
    start_seconds: time from the start of its process to its first response.
    """

    target: Target
    pid: int
    start_seconds: float

    def get(self, path: str) -> httpx.Response:
        """Return a successful response; raises BenchmarkError."""
        try:
            return _get(self.target.port, path).raise_for_status()
        except httpx.HTTPError as error:
            raise BenchmarkError(f"{self.target.name}, GET {path}: {error}") from error

    def memory(self) -> TreeMemory:
        """Return the memory of all its processes."""
        return tree_memory(self.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(time.user + time.system for time in times)

    def suspend(self) -> None:
        """Stop all its processes until `resumed`, because some servers poll while idle."""
        for process in self._processes():
            process.suspend()

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """Let a suspended server run until the block ends without an error."""
        for process in self._processes():
            process.resume()
        yield
        self.suspend()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]


@contextlib.contextmanager
def running(program: Program) -> Iterator[Server]:
    """Run a program until the block ends; raises BenchmarkError if it does not become ready."""
    log = program.folder / f"server-{program.port}.log"
    began = time.perf_counter()
    with process_group(program.command, cwd=program.cwd, environment=program.variables, log=log) as process:
        _wait(program, process, log, began + _START_SECONDS)
        start_seconds = time.perf_counter() - began
        yield Server(Target(program.name, program.port, program.requests), process.pid, start_seconds)


def loopback(port: int) -> dict[str, str]:
    """Return the variables that make a container listen on one loopback port."""
    return {PORT_VARIABLE: str(port), HOST_VARIABLE: "127.0.0.1"}


def _wait(program: Program, process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> None:
    while not _responds(program):
        if process.poll() is not None:
            raise BenchmarkError(f"{program.name} ended with exit code {process.returncode}: {last_lines(log)}")
        if time.perf_counter() > deadline:
            raise BenchmarkError(
                f"{program.name} did not respond on {program.ready} within {_START_SECONDS:g} s: {last_lines(log)}"
            )
        time.sleep(_POLL_SECONDS)


def _responds(program: Program) -> bool:
    """Return whether the server responds; one that refuses an unsigned request is ready, too."""
    try:
        return not _get(program.port, program.ready).is_server_error
    except httpx.HTTPError:
        return False


def _get(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=_RESPONSE_SECONDS, trust_env=False)
