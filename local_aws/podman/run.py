"""How a container is started: as SageMaker would, with nothing that serving does not need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 30
"""SageMaker sends SIGKILL 30 s after SIGTERM."""
MAX_PROCESSES = 1024
"""Limit on processes and threads of one container."""
TMP_MIB = 512


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine, mounted read-only in a container."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    memory_bytes: limit, including swap. cpus: CPU time limit, in cores. passed: names of variables that Podman takes
    from its own environment, because every user of the machine can read its arguments.
    """

    name: str
    image: str
    command: tuple[str, ...]
    memory_bytes: int
    cpus: float
    environment: Mapping[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    pid_file: Path | None = None

    def arguments(self) -> list[str]:
        """Return podman's arguments: run in the foreground, forward signals, and keep the container for inspection."""
        return [
            "run",
            f"--name={self.name}",
            "--pull=never",
            "--http-proxy=false",
            "--network=host",
            "--log-driver=none",
            f"--stop-timeout={STOP_SECONDS}",
            "--read-only",
            "--read-only-tmpfs=false",
            f"--tmpfs=/tmp:rw,nosuid,nodev,noexec,mode=1777,size={TMP_MIB}m",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            f"--memory={self.memory_bytes}b",
            f"--memory-swap={self.memory_bytes}b",
            f"--cpus={self.cpus:g}",
            f"--pids-limit={MAX_PROCESSES}",
            *(f"--label={name}={value}" for name, value in self.labels.items()),
            *(f"--env={name}={value}" for name, value in self.environment.items()),
            *(f"--env={name}" for name in self.passed),
            *(f"--volume={mount.source}:{mount.target}:ro" for mount in self.mounts),
            *([f"--pidfile={self.pid_file}"] if self.pid_file else []),
            self.image,
            *self.command,
        ]
