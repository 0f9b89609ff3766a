"""Checks of a serving container: unprivileged user, correct responses, refusals, and a timely stop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from containers.serving.contract import HOST_VARIABLE, PORT_VARIABLE
from local_aws.podman.engine import Podman
from local_aws.podman.run import STOP_SECONDS, Container, Mount
from local_aws.processes import alive, free_port
from tools.fuzz.wire import Connection, Reply, Request, WireError, replies_to
from tools.images.catalog import Image

MEMORY_BYTES, CPUS = 1 << 30, 1.0
START_SECONDS = 120.0
_ANSWER_SECONDS = 60.0
_REFUSAL_SECONDS = 5.0
_USER = "10001"
_TRY_WRITES = """
import json, os
found = {}
for folder in ("/", "/etc", "/usr", "/opt/program", "/opt/venv", "/opt/ml/model", "/var/tmp", "/run", "/tmp"):
    try:
        with open(os.path.join(folder, "written"), "w") as file:
            file.write("x")
        found[folder] = ""
    except OSError as error:
        found[folder] = error.strerror
from containers.serving.cpu import available_cores
from containers.serving.memory import memory_limit_bytes
print(json.dumps({"writes": found, "cores": available_cores(), "memory": memory_limit_bytes()}))
"""


@dataclass
class Outcome:
    """Result of the checks.

    ping_seconds: from `podman run` to a successful /ping. stop_seconds: from SIGTERM to the exit. wrong: violations.
    """

    ping_seconds: float = 0.0
    stop_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def must(self, true: bool, otherwise: str) -> None:
        """Record a violation if `true` does not hold."""
        if not true:
            self.wrong.append(otherwise)


@dataclass
class Running:
    """A container run by a foreground Podman. log: output of both."""

    process: "subprocess.Popen[bytes]"
    name: str
    pid_file: Path
    log: Path

    @property
    def pid(self) -> int:
        """ID of the container's first process on this machine."""
        return int(self.pid_file.read_text())

    def last_lines(self) -> str:
        """Return the end of its output."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-4:])


@contextlib.contextmanager
def running(podman: Podman, container: Container, folder: Path) -> Iterator[Running]:
    """Run a container until the block ends, then remove every trace of it."""
    assert container.pid_file is not None
    log = folder / f"{container.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [podman.program, *container.arguments()],
            env=podman.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, container.name, container.pid_file, log)
    finally:
        podman.try_call("rm", "--force", "--ignore", "--time", "0", container.name)
        process.kill()
        process.wait()


def check(podman: Podman, image: Image, image_id: str, folder: Path) -> Outcome:
    """Run an image's server through all checks."""
    outcome, port = Outcome(), free_port()
    model = folder / f"{image.name}-model"
    image.save(model)
    for path in model.rglob("*"):
        # As in the build's archive, because the server runs as another user.
        path.chmod(0o755 if path.is_dir() else 0o644)
    container = Container(
        name=f"check-{image.name}-{os.getpid()}",
        image=image_id,
        command=("serve",),
        memory_bytes=MEMORY_BYTES,
        cpus=CPUS,
        environment={**image.environment, PORT_VARIABLE: str(port), HOST_VARIABLE: "127.0.0.1"},
        mounts=(Mount(model, image.mounted),),
        pid_file=folder / f"{image.name}.pid",
    )
    began = time.monotonic()
    with running(podman, container, folder) as server:
        if not _pings(server, port, began + START_SECONDS):
            outcome.wrong.append(f"it did not respond to /ping within {START_SECONDS:g} s: {server.last_lines()}")
            return outcome
        outcome.ping_seconds = time.monotonic() - began
        check_rights(server.pid, outcome)
        _check_inside(podman, server.name, outcome)
        try:
            _check_answers(image, port, outcome)
            _check_stop(server, image, port, outcome)
        except (WireError, OSError) as error:
            outcome.wrong.append(f"{error}; its log ends with {server.last_lines()}")
    return outcome


def _pings(server: Running, port: int, deadline: float) -> bool:
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError, WireError), Connection(port, 5.0) as connection:
            if connection.ask(Request("GET", "/ping")).status == 200:
                return True
        time.sleep(0.05)
    return False


def check_rights(pid: int, outcome: Outcome) -> None:
    """Check what the kernel reports about a container's first process (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    outcome.must(set(status["Uid"]) == {_USER}, f"it runs as user {status['Uid'][0]}, not as {_USER}")
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name][0], 16)]
    outcome.must(not held, f"it has capabilities: {', '.join(held)}")
    outcome.must(status["NoNewPrivs"] == ["1"], "it may gain privileges by executing a file")
    outcome.must(status["Seccomp"] == ["2"], "its system calls are not filtered")


def _check_inside(podman: Podman, name: str, outcome: Outcome) -> None:
    seen = json.loads(podman.call("exec", name, "python", "-c", _TRY_WRITES))
    writable = [folder for folder, error in seen["writes"].items() if not error]
    outcome.must(writable == ["/tmp"], f"it can write to {', '.join(writable) or 'no folder'}, not just to /tmp")
    outcome.must(seen["memory"] == MEMORY_BYTES, f"it sees {seen['memory']} bytes of memory, not {MEMORY_BYTES}")
    outcome.must(seen["cores"] == CPUS, f"it sees {seen['cores']} cores, not {CPUS:g}")


def _check_answers(image: Image, port: int, outcome: Outcome) -> None:
    with Connection(port, _ANSWER_SECONDS) as connection:
        if image.load is not None:
            loaded = connection.ask(image.load)
            outcome.must(loaded.status == 200, f"it did not load its model: {_shown(loaded)}")
        good, refused = connection.ask(image.good), connection.ask(image.refused)
    outcome.must(good.status == 200 and image.answered(good.body), f"a valid request got {_shown(good)}")
    outcome.must(400 <= refused.status < 500, f"an invalid request got {_shown(refused)}")


def _check_stop(server: Running, image: Image, port: int, outcome: Outcome) -> None:
    """Send SIGTERM during a request, and send the request's body only after the server has begun to stop."""
    headers = (*image.good.headers, ("expect", b"100-continue"), ("connection", b"close"))
    raw = Request(image.good.method, image.good.path, headers, image.good.body).raw()
    head, body = raw[: -len(image.good.body)], image.good.body
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS) as connection:
        connection.sendall(head)
        interim = b""
        while not interim.endswith(b"\r\n\r\n") and (received := connection.recv(1)):
            interim += received
        outcome.must(interim.startswith(b"HTTP/1.1 100 "), f"it did not ask for the body: {interim[:100]!r}")
        os.kill(server.pid, signal.SIGTERM)
        began = time.monotonic()
        _wait_until_refused(port, began + _REFUSAL_SECONDS)
        replies = replies_to(connection, body, _ANSWER_SECONDS, end=False)
    statuses = [reply.status for reply in replies]
    outcome.must(statuses == [200], f"the request in flight at SIGTERM got {statuses or 'no response'}")
    try:
        code = server.process.wait(max(0.1, began + STOP_SECONDS - time.monotonic()))
        outcome.must(code == 0, f"it exited with code {code} on SIGTERM: {server.last_lines()}")
    except subprocess.TimeoutExpired:
        outcome.wrong.append(f"it was still running {STOP_SECONDS} s after SIGTERM")
    outcome.stop_seconds = time.monotonic() - began
    outcome.must(not alive(server.pid), "its process is still running")


def _wait_until_refused(port: int, deadline: float) -> None:
    """Wait until the server refuses new connections, or responds to /ping with something other than 200."""
    while time.monotonic() < deadline:
        try:
            with Connection(port, 1.0) as connection:
                if connection.ask(Request("GET", "/ping")).status != 200:
                    return
        except (OSError, WireError):
            return
        time.sleep(0.05)


def _shown(reply: Reply) -> str:
    return f"{reply.status}: {reply.body[:200].decode(errors='replace')}"
