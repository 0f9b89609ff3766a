"""The servers, each a process group on a free loopback port, and the engine without any server."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.closed_loop import Target
from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from benchmarks.wire import post
from containers.serving.app import JSON
from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, PORT_VARIABLE
from local_aws.account import ROOT
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.processes import free_port

_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
OURS, FASTAPI, LITSERVE = "encoder's container", "FastAPI, plain", "LitServe, batching"


@dataclass(frozen=True, slots=True)
class Environments:
    """Python environments of the container's image and of its rivals."""

    image: Path
    rivals: Path

    @classmethod
    def make(cls, cache: Path) -> "Environments":
        """Install both in `cache` on first use; raises BenchmarkError."""
        try:
            image = environment(cache, "image", ROOT / "containers/encoder/requirements-vnni.txt", "--no-deps")
            rivals = environment(cache, "bert-rivals", Path(__file__).with_name("requirements-rivals.txt"), "--no-deps")
        except EnvironmentSetupError as error:
            raise BenchmarkError(str(error)) from error
        return cls(image, rivals)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    start_seconds: time from the start of its process to the first successful /ping.
    """

    name: str
    target: Target
    pid: int
    start_seconds: float

    @property
    def resident_bytes(self) -> int:
        """Memory of all its processes, in bytes."""
        return sum(process.memory_info().rss for process in self._processes())

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run until the block ends; it rests otherwise, because some servers poll while idle."""
        for process in self._processes():
            process.resume()
        yield
        self.rest()

    def rest(self) -> None:
        """Stop all its processes until `awake`."""
        for process in self._processes():
            process.suspend()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]


@contextlib.contextmanager
def serve(
    name: str, environments: Environments, model: Path, threads: int, bodies: list[bytes], folder: Path
) -> Iterator[Server]:
    """Run the named server with the model in `model`; raises BenchmarkError."""
    port, log = free_port(), folder / f"{name.partition(' ')[0].replace(chr(39), '')}.log"
    if name == OURS:
        python = environments.image
        command = ["-m", "containers.encoder", "serve"]
    else:
        python = environments.rivals
        module = {FASTAPI: "fastapi_server", LITSERVE: "litserve_server"}[name]
        command = ["-m", f"benchmarks.encoder.rivals.{module}", str(model), str(port), str(threads)]
    variables = {
        "PATH": f"{python}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        BASE_DIR_VARIABLE: str(model.parent),
        PORT_VARIABLE: str(port),
        HOST_VARIABLE: "127.0.0.1",
    }
    began = time.perf_counter()
    with process_group([str(python / "bin/python"), *command], cwd=ROOT, environment=variables, log=log) as process:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/ping", timeout=10, trust_env=False).is_success:
                    break
            if process.poll() is not None or time.perf_counter() - began > _START_SECONDS:
                raise BenchmarkError(f"{name} does not answer: {last_lines(log)}")
            time.sleep(_POLL_SECONDS)
        requests = tuple(post("/invocations", body, JSON) for body in bodies)
        yield Server(name, Target(name, port, requests), process.pid, time.perf_counter() - began)
