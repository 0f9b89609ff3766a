"""How a replica's image is run: as a process group on this machine, or in a Podman container."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, PORT_VARIABLE
from containers.serving.memory import LIMIT_VARIABLE
from local_aws.child_environment import inherited
from local_aws.hosting.images import Image
from local_aws.installer import CONTAINER_VARIABLE, uv_environment
from local_aws.podman.engine import Podman
from local_aws.podman.run import Container, Mount
from local_aws.podman.state import HOSTING, owner

MODELS_FOLDER = "opt/ml/models"
"""Folder of a multi-model replica's archives, below its own folder and below a container's root."""
_BASE = "opt/ml"
_CONTAINERS_OWN = ("PATH", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start. container: name of the container if the process is Podman's, else empty."""

    command: tuple[str, ...]
    workdir: Path
    environment: Mapping[str, str]
    container: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use. cpus: cores of the instance type; this machine may have fewer."""

    memory_bytes: int
    cpus: float


def installer(cache: Path, *, isolated: bool) -> dict[str, str]:
    """Return the variable with which a container installs packages when it starts; blocks.

    isolated: whether it has no network, and so can install nothing.
    """
    settings = {**inherited(installs=True), **uv_environment(cache)}
    given = None if isolated else {name: settings[name] for name in settings if name not in _CONTAINERS_OWN}
    return {CONTAINER_VARIABLE: json.dumps(given)}


def as_process(
    image: Image, folder: Path, model_dir: str | None, environment: Mapping[str, str], *, port: int, memory_bytes: int
) -> Launch:
    """Return the launch of the image's own command, in its environment, with /opt/ml below `folder`."""
    _make_folders(folder)
    (folder / "tmp").mkdir()
    model = folder / _BASE / "model"
    if model_dir is None:
        model.mkdir()
    else:
        model.symlink_to(model_dir, target_is_directory=True)
    return Launch(
        (*image.entrypoint, "serve"),
        Path(image.rootfs) / image.workdir.lstrip("/"),
        {
            **{name: value for name, value in image.environment.items() if name != "PATH"},
            **environment,
            "PATH": f"{image.venv}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder / "tmp"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            BASE_DIR_VARIABLE: str(folder / _BASE),
            LIMIT_VARIABLE: str(memory_bytes),
            **_address(port),
        },
    )


def as_container(
    podman: Podman,
    image: Image,
    folder: Path,
    model_dir: str | None,
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
    *,
    port: int,
    limits: Limits,
) -> Launch:
    """Return the launch of Podman in the foreground, which forwards signals and exits with the container's code.

    secrets: additional variables, kept out of Podman's arguments. folder: `STATE/replicas/ID`.
    """
    _make_folders(folder)
    name = f"replica-{folder.name}"
    container = Container(
        name=name,
        image=image.container,
        command=("serve",),
        memory_bytes=limits.memory_bytes,
        cpus=min(limits.cpus, float(os.cpu_count() or 1)),
        environment={**environment, **_address(port)},
        passed=tuple(secrets),
        mounts=(
            Mount(Path(model_dir), f"/{_BASE}/model")
            if model_dir is not None
            else Mount(folder / MODELS_FOLDER, f"/{MODELS_FOLDER}"),
        ),
        labels=dict([owner(HOSTING, folder.parents[1])]),
        pid_file=pid_file(folder),
    )
    return Launch((podman.program, *container.arguments()), folder, {**podman.environment, **secrets}, name)


def pid_file(folder: Path) -> Path:
    """Return the file where Podman writes the process ID, on this machine, of a container's first process."""
    return folder / "pid"


def _make_folders(folder: Path) -> None:
    (folder / MODELS_FOLDER).mkdir(parents=True, exist_ok=True)


def _address(port: int) -> dict[str, str]:
    return {PORT_VARIABLE: str(port), HOST_VARIABLE: "127.0.0.1"}
