"""The images' servers as separate processes, serving tiny models."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, PORT_VARIABLE
from containers.serving.memory import LIMIT_VARIABLE
from local_aws.processes import die_with_parent, free_port
from tools import tiny_models
from tools.fuzz.hostile import save_models
from tools.fuzz.wire import Connection, Request, WireError

START_SECONDS = 120
CHURN_STATES = ("CA", "NY")
CHURN_LIMIT_BYTES = 512 * 2**20
"""Memory limit of the multi-model server, low enough that endless load requests reach it."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one image's server.

    save: writes the model to serve below a base folder. environment: additional variables.
    """

    name: str
    save: Callable[[Path], None]
    environment: tuple[tuple[str, str], ...] = ()


def _save_churn(base: Path) -> None:
    for state, model in tiny_models.churn_models(CHURN_STATES).items():
        tiny_models.save_churn(base / "models" / state / "model", model)
        tiny_models.save_churn(base / "models" / f"{state}-cut" / "model", model[: len(model) // 2])
    tiny_models.save_churn(base / "models" / "text" / "model", b"no model")
    save_models(base / "hostile")
    (base / "models" / "empty" / "model").mkdir(parents=True)


SERVERS = {
    server.name: server
    for server in (
        Server("encoder", lambda base: tiny_models.save_encoder(base / "model")),
        Server("tabular", _save_churn, ((LIMIT_VARIABLE, str(CHURN_LIMIT_BYTES)),)),
        Server("saved_model", lambda base: tiny_models.save_unet(base / "model")),
        Server(
            "neuron_encoder",
            lambda base: tiny_models.save_neuron_encoder(base / "model"),
            (("NEURON_ENCODER_DEVICE", "cpu"), ("NEURON_ENCODER_VIRTUAL_CORES", "2"), ("NEURON_ENCODER_MODELS", "2")),
        ),
    )
}


class Running:
    """A server that listens on a loopback port; `restart` starts it again after it has died."""

    def __init__(self, server: Server, base: Path) -> None:
        self.server, self.base = server, base
        self.log = base / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the last started process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last started process; None while it runs."""
        return self._process.returncode if self._process is not None else None

    def restart(self) -> None:
        """Start the process, and wait until /ping succeeds."""
        self.stop()
        self.port = free_port()
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("NEURON_ENCODER_", "SAGEMAKER_"))
            },
            BASE_DIR_VARIABLE: str(self.base),
            PORT_VARIABLE: str(self.port),
            HOST_VARIABLE: "127.0.0.1",
            **dict(self.server.environment),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"containers.{self.server.name}", "serve"],
                env=environment,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._pings():
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{self.server.name} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def _pings(self) -> bool:
        with contextlib.suppress(OSError, WireError), Connection(self.port, 5.0) as connection:
            return connection.ask(Request("GET", "/ping")).status == 200
        return False

    def processes(self) -> list[psutil.Process]:
        """Return the process and its descendants."""
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def memory_mib(self) -> float:
        """Return the resident memory of all its processes, in MiB."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20

    def connect(self, seconds: float) -> socket.socket:
        """Return a plain connection whose reads and writes time out after `seconds`."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def stop(self) -> None:
        """Stop the process and its descendants."""
        if self._process is None:
            return
        family = self.processes()
        self._process.terminate()
        try:
            self._process.wait(35)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def running(server: Server, base: Path) -> Iterator[Running]:
    """Run a server until the block ends."""
    base.mkdir(parents=True)
    server.save(base)
    server_process = Running(server, base)
    try:
        server_process.restart()
        yield server_process
    finally:
        server_process.stop()
