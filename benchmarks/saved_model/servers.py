"""Build the models and start the servers, each in its own environment and on a free loopback port."""

import contextlib
import http.client
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import builds
from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, PORT_VARIABLE, WORKERS_VARIABLE
from load_tests.closed_loop import Request
from local_aws import fake_images
from local_aws.account import ROOT
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.processes import free_port

RECIPE: Mapping[str, Any] = {
    "source": {"kind": "generated", "images": 160},
    "precisions": ["int8"],
    "png_signature": True,
}
"""The network at full size. Both servers accept PNG, so JSON slows neither down."""
_IMAGE = "tensorflow-inference"
_START_SECONDS = 120.0
_ANSWER_SECONDS = 60.0
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Build:
    """Output of the build: archives of both models, and its summary."""

    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`."""
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found

    @property
    def samples(self) -> bytes:
        """Images and masks as a zip archive."""
        return (self.folder / "samples.zip").read_bytes()

    def extract(self, name: str, to: Path) -> Path:
        """Write an archive's files below `to/model`, and return that folder."""
        target = to / "model"
        with tarfile.open(fileobj=io.BytesIO((self.folder / name / "model.tar.gz").read_bytes())) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content is not None:
                    path = target / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        return target


def build(cache: Path) -> Build:
    """Run the workload's build as CodeBuild does, with its output on stderr; raises BenchmarkError."""
    return Build(builds.build("saved_model", RECIPE, cache))


@dataclass(frozen=True, slots=True)
class Environments:
    """Python interpreters of the container's image and of the fake TensorFlow Serving image."""

    openvino: Path
    tensorflow: Path

    @classmethod
    def make(cls, cache: Path) -> "Environments":
        """Install both in `cache` on first use; raises BenchmarkError."""
        try:
            image = environment(cache, "image", ROOT / "containers/saved_model/requirements.txt", "--no-deps")
            stand_in = environment(cache, _IMAGE, fake_images.FAKES[_IMAGE].requirements, "--no-deps")
        except EnvironmentSetupError as error:
            raise BenchmarkError(str(error)) from error
        return cls(image / "bin/python", stand_in / "bin/python")


class Server:
    """A running server, with one kept-alive connection per client thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def send(self, request: Request) -> bytes:
        """Return the response to an image; raises OSError or http.client.HTTPException unless it succeeds."""
        status, body = self._ask(
            "POST", "/invocations", request.body, {"Content-Type": request.content_type, "Accept": request.accept}
        )
        if status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"HTTP {status}: {body[:300].decode(errors='replace')}")
        return body

    def pings(self) -> bool:
        """Return whether it can respond."""
        try:
            return self._ask("GET", "/ping", b"", {})[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
            self._local.connection = connection
        elif time.monotonic() - self._local.used > _IDLE_SECONDS:
            # The connection reopens by itself; the server may have closed it in the meantime.
            connection.close()
        self._local.used = time.monotonic()
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise


@contextlib.contextmanager
def openvino(python: Path, base: Path, workers: int | None) -> Iterator[Server]:
    """Run this project's container over `base/model`, as its image starts it; raises BenchmarkError.

    workers: images computed at a time; None lets the container decide.
    """
    command = [str(python), "-m", "containers.saved_model", "serve"]
    given = {} if workers is None else {WORKERS_VARIABLE: str(workers)}
    with _running("the container", command, base, given) as server:
        yield server


@contextlib.contextmanager
def tensorflow(python: Path, base: Path, knobs: Mapping[str, str]) -> Iterator[Server]:
    """Run the fake of SageMaker's TensorFlow Serving container over `base/model`; raises BenchmarkError."""
    command = [str(python), "-m", fake_images.FAKES[_IMAGE].package, "serve"]
    with _running("the TensorFlow stand-in", command, base, knobs) as server:
        yield server


@contextlib.contextmanager
def _running(what: str, command: list[str], base: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    port = free_port()
    log = base / f"server-{port}.log"
    given = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(base),
        "TMPDIR": str(base),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        BASE_DIR_VARIABLE: str(base),
        PORT_VARIABLE: str(port),
        HOST_VARIABLE: "127.0.0.1",
        **variables,
    }
    with process_group(command, cwd=ROOT, environment=given, log=log) as process:
        server = Server(port)
        deadline = time.monotonic() + _START_SECONDS
        while not server.pings():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{what} did not start: {last_lines(log)}")
            time.sleep(0.1)
        yield server
