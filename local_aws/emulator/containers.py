"""Containers of ECS tasks, behind the subset of the Docker client that the emulator's ECS calls.

They are process groups on this machine, or Podman containers if Podman built their image.
"""

import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local_aws.account import ADDRESSES, default_cache
from local_aws.authentication.credentials import CredentialStore
from local_aws.hosting.images import Image, find
from local_aws.podman.engine import Podman, require
from local_aws.podman.run import Container as PodmanContainer
from local_aws.podman.state import TASKS, owner
from local_aws.processes import die_with_parent, kill_group

_STOP_SECONDS = 30.0
"""ECS's default stopTimeout, in seconds."""
_ADDRESS = "127.0.0.1"
_MEMORY_BYTES = 4 * 2**30
"""Memory limit of a task that Podman runs; the emulator does not pass on the task definition's own limit."""


class NoSuchContainerError(LookupError):
    """There is no container, or no image, with that name; the message names it."""


class Container:
    """A process group that runs an image's entrypoint and keeps its output in memory until it is removed.

    forget: called with the ID of the container once it is removed.
    Unless Podman runs it, memory and processors are unlimited, and its root file system is this machine's own.
    """

    def __init__(
        self,
        image: Image,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_seconds: float,
        state: Path | None = None,
        forget: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._forget = forget
        self.attrs = {"NetworkSettings": {"Networks": {"loopback": {"IPAddress": _ADDRESS}}}}
        self._command, self._stop_seconds = [*image.entrypoint, *command], stop_seconds
        self._folder = Path(tempfile.mkdtemp(prefix="container-"))
        self._workdir = Path(image.rootfs) / image.workdir.lstrip("/")
        self._keys = None if state is None else CredentialStore(state)
        self._key = None if self._keys is None else self._keys.issue(f"task/{self.id}", temporary=True)
        self._environment = {
            **{name: value for name, value in image.environment.items() if name != "PATH"},
            "PATH": f"{image.venv}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "LANG": "C.UTF-8",
            **environment,
            # The emulator passes addresses that only containers can reach, and a key that they all share.
            **{name: os.environ[name] for name in ADDRESSES if name in os.environ},
            **({} if self._key is None else self._key.environment()),
        }
        self._podman: Podman | None = None
        if image.container:
            self._use_podman(image.container, command, environment, state)
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._pid: int | None = None
        self._exit_code: int | None = None
        self._error: OSError | None = None

    def _use_podman(
        self, image: str, command: Sequence[str], environment: Mapping[str, str], state: Path | None
    ) -> None:
        self._podman = require(default_cache())
        aws = {name: value for name, value in self._environment.items() if name.startswith("AWS_")}
        container = PodmanContainer(
            name=f"task-{self.id}",
            image=image,
            command=tuple(command),
            memory_bytes=_MEMORY_BYTES,
            cpus=float(os.cpu_count() or 1),
            environment=environment,
            passed=tuple(aws),
            labels=dict([owner(TASKS, state)]) if state is not None else {},
        )
        self._command = [self._podman.program, *container.arguments()]
        self._workdir, self._environment = self._folder, {**self._podman.environment, **aws}

    def start(self) -> None:
        """Start the process, and return once it runs; raise OSError."""
        # The kernel kills a child when the thread that started it ends, so that thread must outlive the child.
        threading.Thread(target=self._run, daemon=True, name=f"container-{self.id[:8]}").start()
        with self._changed:
            self._changed.wait_for(lambda: self._pid is not None or self._error is not None)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            process = subprocess.Popen(
                self._command,
                cwd=self._workdir,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            self._revoke_key()
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        self._note(pid=process.pid)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        code = process.wait()
        if self._podman is not None:
            self._podman.try_call("rm", "--force", "--ignore", "--time", "0", f"task-{self.id}")
        self._revoke_key()
        shutil.rmtree(self._folder, ignore_errors=True)
        # A shell and Docker report an exit by signal in the same way.
        self._note(exit_code=code if code >= 0 else 128 - code)

    def _revoke_key(self) -> None:
        if self._keys is not None and self._key is not None:
            self._keys.revoke(self._key.access_key_id)

    def _note(self, *, pid: int | None = None, exit_code: int | None = None) -> None:
        with self._changed:
            self._pid = pid or self._pid
            self._exit_code = exit_code
            self._changed.notify_all()

    @property
    def status(self) -> str:
        """`running` or `exited`."""
        return "running" if self._exit_code is None else "exited"

    def reload(self) -> None:
        """No-op: state is always current."""

    def wait(self) -> dict[str, int]:
        """Wait until the process ends, and return its exit code as `StatusCode`."""
        with self._changed:
            self._changed.wait_for(lambda: self._exit_code is not None)
        return {"StatusCode": self._exit_code or 0}

    def logs(self, **options: Any) -> Iterator[bytes]:  # noqa: ARG002 - the Docker client's signature
        """Yield every line of stdout and stderr, from the first until the process ends."""
        read = 0
        while lines := self._lines_after(read):
            read += len(lines)
            yield from lines

    def _lines_after(self, read: int) -> list[bytes]:
        """Wait for more lines than `read`, and return them; return none after the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._lines) > read or self._exit_code is not None)
            return self._lines[read:]

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - the Docker client's signature
        """Send SIGTERM, then SIGKILL after the task definition's stopTimeout, which overrides the caller's timeout."""
        if self._pid is not None and self._exit_code is None:
            kill_group(self._pid, self._stop_seconds)
            self.wait()

    def remove(self, **_options: Any) -> None:
        """Forget the container and its output; everything else that a process leaves is removed when it ends."""
        self._forget(self.id)


class Containers:
    """All containers, by ID."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._known: dict[str, Container] = {}

    def run(
        self,
        image: str,
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        stop_timeout: float | None = None,
        **options: Any,  # noqa: ARG002 - the Docker client's signature
    ) -> Container:
        """Start a container, ignoring options for kernel isolation; raise NoSuchContainerError or OSError."""
        stored = find(self._state, image)
        if stored is None:
            raise NoSuchContainerError(f"there is no image {image}: deploy the stack that builds it")
        container = Container(
            stored, command or (), environment or {}, stop_timeout or _STOP_SECONDS, self._state, self._forget
        )
        container.start()
        self._known[container.id] = container
        return container

    def _forget(self, container_id: str) -> None:
        self._known.pop(container_id, None)

    def get(self, container_id: str) -> Container:
        """Return a container that was started and not removed; raise NoSuchContainerError."""
        if container_id not in self._known:
            raise NoSuchContainerError(f"there is no container {container_id!r}")
        return self._known[container_id]


class Client:
    """Replacement for the client that `docker.from_env` returns, as far as the emulator's ECS uses it."""

    def __init__(self, state: Path) -> None:
        self.containers = Containers(state)
