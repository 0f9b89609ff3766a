"""Podman on this machine, with its own configuration and image store."""

import os
import resource
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap"}
"""Debian package of each program."""
_MAX_OPEN_FILES = 1_048_576
_MAX_PROCESSES = 32_768
_APT_SECONDS = 300
_QUOTED_LINES = 12


class EngineError(RuntimeError):
    """Podman is missing or failed; the message says what to do, or quotes the engine's last lines."""


@dataclass(frozen=True, slots=True)
class Podman:
    """The container engine. folder: its configuration and images, which outlive the accounts that use them."""

    program: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every podman call; of the caller's variables, only PATH and certificates are passed on."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")}
        return {
            **kept,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            # Docker's format, which ECR and SageMaker receive, keeps settings that the OCI format cannot hold.
            "BUILDAH_FORMAT": "docker",
        }

    def configure(self) -> None:
        """Write the configuration that this machine needs."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        for name, text in (("containers.conf", _containers_conf(self.folder)), ("storage.conf", _storage(self.folder))):
            # Several threads and processes may write at once, and none may read a partial file.
            partial = self.folder / "tmp" / f"{name}.{uuid.uuid4().hex}"
            partial.write_text(text)
            partial.replace(self.folder / name)

    def call(self, *arguments: str, timeout: float | None = None) -> str:
        """Run one command and return its output; raise EngineError with its last lines."""
        done = self.try_call(*arguments, timeout=timeout)
        if done.returncode:
            last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_QUOTED_LINES:])
            raise EngineError(f"podman {arguments[0]} ended with exit code {done.returncode}: {last}")
        return done.stdout

    def try_call(self, *arguments: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command; raise EngineError if it takes longer than `timeout` seconds."""
        try:
            return subprocess.run(
                [self.program, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"podman {arguments[0]} took longer than {timeout:g} s") from error

    def has_image(self, name: str) -> bool:
        """Return whether an image is in the store."""
        return self.try_call("image", "exists", name).returncode == 0

    def remove_labelled(self, label: str) -> None:
        """Kill and remove every container with a label."""
        containers = self.try_call("ps", "--all", "--quiet", "--filter", f"label={label}").stdout.split()
        if containers:
            self.try_call("rm", "--force", "--time", "0", *containers)


def find(cache: Path) -> Podman | None:
    """Return the configured engine, or None if Podman is not installed."""
    program = shutil.which("podman")
    if program is None:
        return None
    podman = Podman(program, (cache / "podman").absolute())
    podman.configure()
    return podman


def require(cache: Path) -> Podman:
    """Return the configured engine; raise EngineError if it is missing or does not work."""
    podman = find(cache)
    if podman is None:
        raise EngineError("podman is not installed: run scripts/images, or install podman and runc yourself")
    podman.call("info", timeout=60)
    return podman


def missing(which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """Return the Debian packages of the programs that are missing."""
    return [package for program, package in PACKAGES.items() if which(program) is None]


def install(packages: Sequence[str], *, root: bool, apt: str | None) -> None:
    """Install packages with apt; raise EngineError if that is not possible."""
    wanted = " ".join(packages)
    if apt is None:
        raise EngineError(f"missing packages: {wanted}; there is no apt-get here: install them yourself")
    if not root:
        raise EngineError(f"missing packages: {wanted}; run `sudo apt-get install {wanted}`, or run this as root")
    lock = ["-qq", "-o", f"DPkg::Lock::Timeout={_APT_SECONDS}"]
    for command in (
        [apt, *lock, "update"],
        [apt, *lock, "install", "--yes", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise EngineError(f"apt-get {command[3]} failed: {last}")


def _containers_conf(folder: Path) -> str:
    # The hard limits may be below Podman's defaults, which then cannot be set.
    files = _limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    processes = _limit(resource.RLIMIT_NPROC, _MAX_PROCESSES)
    lines = [
        "[containers]",
        f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]',
        # No bridge and no firewall rules; servers listen on the loopback address only.
        'netns = "host"',
        "[engine]",
        'events_logger = "file"',
        f'tmp_dir = "{folder / "run"}"',
    ]
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and shutil.which("runc"):
        # crun refuses a mix of cgroup versions 1 and 2.
        lines.append('runtime = "runc"')
    if not Path("/run/systemd/system").exists():
        lines.append('cgroup_manager = "cgroupfs"')
    return "\n".join(lines) + "\n"


def _limit(which: int, most: int) -> int:
    _, hard = resource.getrlimit(which)
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def _storage(folder: Path) -> str:
    return f'[storage]\ndriver = "overlay"\ngraphroot = "{folder / "storage"}"\nrunroot = "{folder / "run"}"\n'
