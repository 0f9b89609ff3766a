"""One replica: the image's `serve` command as a process group in its own folder, or in a container."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from local_aws.account import ADDRESSES, default_cache
from local_aws.authentication.credentials import Credential, CredentialStore
from local_aws.hosting import launch
from local_aws.hosting.errors import ReportedError
from local_aws.hosting.images import Image
from local_aws.hosting.launch import MODELS_FOLDER, Launch
from local_aws.hosting.memory import used_bytes
from local_aws.hosting.multi_model import ModelCache
from local_aws.instances import onednn_max_cpu_isa
from local_aws.podman.engine import EngineError, Podman, require
from local_aws.processes import alive, die_with_parent, free_port
from model_build.owned_folders import remove_within
from sizing.instances import instance

STOP_GRACE_SECONDS = 30
"""SageMaker sends SIGKILL 30 s after SIGTERM."""
_KILLED = 128 + signal.SIGKILL
"""Podman's exit code for a container that was ended by SIGKILL."""
MODEL_TIMEOUT_SECONDS = 60
"""InvokeEndpoint's time limit for a model's response."""


class ReplicaFailedError(ReportedError):
    """A replica ended or did not respond; the message quotes its last log lines."""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What to run: image, model, container environment, instance type.

    model_dir: folder of the model's files. model_prefix: S3 prefix of a multi-model endpoint's archives. A container
    that brings its own model has neither. memory_bytes: limit of the container; None for all memory of the instance.
    isolated: whether it has no network. On AWS such a container could call nothing, so it gets no key.
    """

    image: Image
    model_dir: str | None
    model_prefix: str | None
    environment: dict[str, str]
    instance_type: str
    memory_bytes: int | None = None
    isolated: bool = True

    @property
    def memory_limit(self) -> int:
        """Memory limit of the container, in bytes."""
        return self.memory_bytes or instance(self.instance_type).memory_bytes


class Replica:
    """A running container, or the process that replaces it, and the connections to it."""

    def __init__(self, state: Path, spec: ReplicaSpec, label: str) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.spec, self.label = spec, label
        self._state, self.folder = state, state / "replicas" / self.id
        self.log = state / "logs" / f"{label.replace('/', '.')}.{self.id}.log"
        self.port = free_port()
        self.started = time.time()
        self.in_flight = 0
        self.ready = False
        self._over_limit = ""
        self._served = False
        self.client = aiohttp.ClientSession(
            f"http://127.0.0.1:{self.port}",
            timeout=aiohttp.ClientTimeout(total=MODEL_TIMEOUT_SECONDS, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            auto_decompress=False,
            skip_auto_headers=("Content-Type", "User-Agent"),
        )
        self.models = self._model_cache()
        self._process: asyncio.subprocess.Process | None = None
        self._keys = CredentialStore(state)
        self._key: Credential | None = None
        self._podman: Podman | None = None
        self._container = ""

    def _model_cache(self) -> ModelCache | None:
        if self.spec.model_prefix is None:
            return None
        folder = self.folder / MODELS_FOLDER
        seen_at = Path("/", MODELS_FOLDER) if self.spec.image.container else folder
        return ModelCache(self.client, self._state, folder, self.spec.model_prefix, self.spec.memory_limit, seen_at)

    @property
    def pid(self) -> int:
        """Process ID, of a container's first process if there is a container; 0 before the start."""
        if self._container:
            with contextlib.suppress(OSError, ValueError):
                return int(launch.pid_file(self.folder).read_text())
            return 0
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.returncode is None and alive(self._process.pid)

    @property
    def lost(self) -> bool:
        """Whether its process has ended after it accepted requests."""
        return self._served and not self.running

    @property
    def killed(self) -> str:
        """Why the platform ended it; empty if it did not."""
        if self._container and self._process is not None and self._process.returncode == _KILLED:
            # Its cgroup does not report why it killed the container.
            limit = f"{self.spec.memory_limit / 2**20:.0f} MiB"
            return f"the kernel ended it, as it does with a container that needs more than its {limit} of memory"
        return self._over_limit

    def kill_over_limit(self) -> None:
        """Kill a container that exceeds its memory limit, as the kernel of a real instance would."""
        limit = self.spec.memory_limit
        if self._container:
            # Its cgroup does this.
            return
        if self.running and (used := used_bytes(self.pid, limit)) > limit:
            self._over_limit = f"it used {used / 2**20:.0f} MiB of memory and has {limit / 2**20:.0f} MiB"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def start(self, timeout_seconds: float) -> None:
        """Start the process and wait for `/ping`; raise ReplicaFailedError."""
        try:
            await self._launch()
        except (OSError, EngineError) as error:
            raise ReplicaFailedError(f"the container could not be started: {error}") from error
        assert self._process is not None
        deadline = time.monotonic() + timeout_seconds
        while not await self._pings():
            if self._process.returncode is not None:
                raise ReplicaFailedError(
                    f"the container ended with exit code {self._process.returncode} before it responded to /ping: "
                    f"{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                raise ReplicaFailedError(
                    f"the container did not respond to /ping in {timeout_seconds:g} s: {self.last_lines()}"
                )
            await asyncio.sleep(0.1)
        self.ready = self._served = True

    async def _launch(self) -> None:
        image = self.spec.image
        cap = onednn_max_cpu_isa(self.spec.instance_type)
        prepared = await self._prepared(cap)
        with self.log.open("ab") as log:
            log.write(f"local account: {self.spec.instance_type} runs on this machine's processor".encode())
            log.write((f", engines capped to ONEDNN_MAX_CPU_ISA={cap}\n" if cap else "\n").encode())
            if image.note:
                log.write(f"local account: {image.note}\n".encode())
            log.flush()
            self._process = await asyncio.create_subprocess_exec(
                *prepared.command,
                cwd=prepared.workdir,
                env=prepared.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def _prepared(self, cap: str | None) -> Launch:
        environment = {
            **self.spec.environment,
            **({"SAGEMAKER_MULTI_MODEL": "true"} if self.models else {}),
            **({"ONEDNN_MAX_CPU_ISA": cap} if cap else {}),
        }
        image, folder, model, memory = self.spec.image, self.folder, self.spec.model_dir, self.spec.memory_limit
        role = self._role_environment()
        if image.installs:
            environment |= await asyncio.to_thread(launch.installer, default_cache(), isolated=self.spec.isolated)
        if not image.container:
            return launch.as_process(image, folder, model, {**environment, **role}, port=self.port, memory_bytes=memory)
        self._podman = await asyncio.to_thread(require, default_cache())
        cpus = float(instance(self.spec.instance_type).vcpus)
        prepared = launch.as_container(
            self._podman, image, folder, model, environment, role, port=self.port, limits=launch.Limits(memory, cpus)
        )
        self._container = prepared.container
        return prepared

    def _role_environment(self) -> dict[str, str]:
        """Return the variables with which a container calls the account: its own key, which is revoked when it ends."""
        if self.spec.isolated:
            return {}
        self._key = self._keys.issue(f"replica/{self.id}", temporary=True)
        addresses = {name: os.environ[name] for name in ADDRESSES if name in os.environ}
        return {**addresses, **self._key.environment()}

    async def _pings(self) -> bool:
        try:
            async with self.client.get("/ping", timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Let requests in flight finish, stop the process group, and remove the folder."""
        self.ready = False
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_GRACE_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._podman is not None and self._container:
            # Podman keeps the container for inspection, and a killed Podman leaves it running.
            with contextlib.suppress(EngineError):
                await asyncio.to_thread(
                    self._podman.try_call, "rm", "--force", "--ignore", "--time", "0", self._container, timeout=60
                )
        if self._key is not None:
            self._keys.revoke(self._key.access_key_id)
        if self.models is not None:
            self.models.close()
        await self.client.close()
        with contextlib.suppress(OSError):
            remove_within(self._state, self.folder)

    def last_lines(self, count: int = 3) -> str:
        """Return the end of the replica's log on one line."""
        with contextlib.suppress(OSError), self.log.open(errors="replace") as log:
            return " | ".join(line.strip() for line in deque(log, count) if line.strip())
        return ""
