"""Start both servers, each in its own environment and on a free loopback port."""

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from containers.serving.contract import HOST_VARIABLE, PORT_VARIABLE
from local_aws.account import ROOT
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.processes import free_port

Packages = Literal["lean", "built-in"]
"""Packages available to XGBoost in Multi Model Server's workers: NumPy and SciPy, or also pandas and scikit-learn."""

JVM_OPTIONS = "-Xmx128m -XX:-UseLargePages -XX:+UseG1GC -XX:MaxMetaspaceSize=32M -XX:MaxDirectMemorySize=10m"
"""Options from Multi Model Server's own Docker image; by default, the heap may take a quarter of the machine."""
_HERE = Path(__file__).parent
_REQUIREMENTS: Mapping[Packages, Path] = {
    "lean": _HERE / "requirements-mms.txt",
    "built-in": _HERE / "requirements-mms-built-in.txt",
}
_CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}
_START_SECONDS = 60.0
_ANSWER_SECONDS = 180.0
"""Time limit for a response; Multi Model Server gives a worker 120 s to start."""


@dataclass(frozen=True, slots=True)
class Environments:
    """Python environments of the container's image and of Multi Model Server."""

    container: Path
    mms: Path

    @classmethod
    def make(cls, cache: Path, packages: Packages) -> "Environments":
        """Install both in `cache` on first use; raises BenchmarkError."""
        try:
            return cls(
                environment(cache, "image", ROOT / "containers/tabular/requirements.txt", "--no-deps"),
                environment(cache, "mms", _REQUIREMENTS[packages], "--no-deps"),
            )
        except EnvironmentSetupError as error:
            raise BenchmarkError(str(error)) from error


class Server:
    """A running server and one kept-alive connection to it; both servers follow SageMaker's multi-model contract."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)

    def load(self, name: str, folder: Path) -> None:
        """Load a model and return once it can respond; raises BenchmarkError."""
        body = json.dumps({"model_name": name, "url": str(folder)}).encode()
        self._request("POST", "/models", body, {"Content-Type": "application/json"})

    def invoke(self, name: str, body: bytes) -> bytes:
        """Return the response to CSV rows; raises BenchmarkError."""
        return self._request("POST", f"/models/{name}/invoke", body, _CSV)

    def unload(self, name: str) -> None:
        """Unload a model; raises BenchmarkError."""
        self._request("DELETE", f"/models/{name}", b"", {})

    def list_models(self, limit: int) -> bytes:
        """Return the first page of models; raises BenchmarkError."""
        return self._request("GET", f"/models?limit={limit}", b"", {})

    def pings(self) -> bool:
        """Return whether the server reports that it is healthy."""
        try:
            self._request("GET", "/ping", b"", {})
        except BenchmarkError:
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BenchmarkError(f"{method} {path}: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise BenchmarkError(f"{method} {path}: HTTP {response.status}: {content[:300].decode(errors='replace')}")
        return content


def java_version() -> str:
    """Return the first line of `java -version`, for the Java that Multi Model Server uses; raises BenchmarkError."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    if java is None:
        where = "JAVA_HOME has no bin/java" if home else "java is not on the PATH"
        raise BenchmarkError(f"Multi Model Server needs Java and {where}: install a JRE (Debian: default-jre-headless)")
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    if done.returncode or not done.stderr:
        raise BenchmarkError(f"java -version fails with exit code {done.returncode}: install a JRE that works")
    return done.stderr.splitlines()[0]


@contextlib.contextmanager
def container(python_environment: Path, folder: Path) -> Iterator[Server]:
    """Run this project's container, as its image starts it."""
    folder.mkdir(parents=True)
    port = free_port()
    variables = {
        **_base_variables(python_environment, folder),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        PORT_VARIABLE: str(port),
        HOST_VARIABLE: "127.0.0.1",
    }
    command = [str(python_environment / "bin/python"), "-m", "containers.tabular", "serve"]
    with _running("the container", command, ROOT, variables, folder / "log", port) as server:
        yield server


@contextlib.contextmanager
def multi_model_server(python_environment: Path, folder: Path) -> Iterator[Server]:
    """Run Multi Model Server, configured for SageMaker's multi-model contract like the built-in container."""
    folder.mkdir(parents=True)
    port = _low_port()
    # SageMaker needs one address for both APIs, a model store that accepts every path, and a handler for folders
    # without a manifest. Asynchronous logging is part of the configuration for SageMaker that MMS ships. One worker per
    # model, not preloaded, is the built-in container's choice; preloading takes more memory.
    config = folder / "config.properties"
    config.write_text(
        f"vmargs={JVM_OPTIONS}\n"
        "model_store=/\n"
        f"inference_address=http://127.0.0.1:{port}\n"
        f"management_address=http://127.0.0.1:{port}\n"
        "default_workers_per_model=1\n"
        "default_service_handler=xgboost_handler:handle\n"
        "decode_input_request=false\n"
        "async_logging=true\n"
    )
    base = _base_variables(python_environment, folder)
    variables = {
        **base,
        **{name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ},
        "PYTHONPATH": str(_HERE / "mms_handler"),
        # Java's own temporary folder, which holds the workers' sockets.
        "TEMP": base["TMPDIR"],
    }
    command = [
        *(str(python_environment / "bin" / name) for name in ("python", "multi-model-server")),
        *("--start", "--foreground", "--mms-config", str(config)),
    ]
    with _running("Multi Model Server", command, folder, variables, folder / "log", port) as server:
        yield server


def _low_port() -> int:
    """Return a free loopback port that Multi Model Server accepts; it rejects ports from 32768."""
    ports = range(20_000, 32_768)
    for port in random.sample(ports, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchmarkError(f"no port from {ports.start} to {ports.stop - 1} is free on the loopback interface")


def _base_variables(python_environment: Path, folder: Path) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir()
    return {
        "PATH": f"{python_environment}/bin:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
    }


@contextlib.contextmanager
def _running(
    name: str, command: list[str], cwd: Path, variables: Mapping[str, str], log: Path, port: int
) -> Iterator[Server]:
    with process_group(command, cwd=cwd, environment=variables, log=log) as process:
        server = Server(process.pid, port)
        deadline = time.monotonic() + _START_SECONDS
        while not server.pings():
            if process.poll() is not None:
                raise BenchmarkError(f"{name} ended with exit code {process.returncode}: {last_lines(log)}")
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{name} did not answer /ping within {_START_SECONDS:.0f} s: {last_lines(log)}")
            time.sleep(0.05)
        try:
            yield server
        finally:
            server.close()
