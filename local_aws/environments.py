"""Virtual environments, cached under the hash of their requirements."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from local_aws.child_environment import inherited
from local_aws.installer import INSTALLER_VARIABLE, UV_VARIABLE, uv_environment
from model_build import owned_folders
from model_build.owned_folders import FolderRefusedError


class EnvironmentSetupError(RuntimeError):
    """An environment could not be created; the message quotes the installer's last lines."""


def environment(cache: Path, name: str, requirements: Path, *pip_options: str, compiled: bool = True) -> Path:
    """Return the environment's folder; create it on first use, or again if its creation was interrupted.

    compiled: compile bytecode during installation instead of at first import, for programs that run without writing
    any. Raises EnvironmentSetupError.
    """
    content = b"".join(path.read_bytes() for path in with_included(requirements))
    key = hashlib.sha256(content + repr((sys.version_info[:3], pip_options)).encode()).hexdigest()[:16]
    folder = cache / "envs" / f"{name}-{key}"
    ready = folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(folder.with_suffix(".lock"), flags, 0o600), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            print(f"installing {requirements.name} for {name}", file=sys.stderr, flush=True)
            try:
                owned_folders.replace(folder)
            except FolderRefusedError as error:
                raise EnvironmentSetupError(str(error)) from error
            _install(cache, folder, [*pip_options, "-r", str(requirements)], compiled)
            ready.touch()
    return folder


def with_included(requirements: Path) -> list[Path]:
    """Return a requirements file and the files that its `-r` lines include, recursively."""
    included = [
        requirements.parent / line.split()[1]
        for line in requirements.read_text().splitlines()
        if line.startswith(("-r ", "--requirement "))
    ]
    return [requirements, *(path for child in included for path in with_included(child))]


def _install(cache: Path, folder: Path, arguments: list[str], compiled: bool) -> None:
    settings = {**inherited(installs=True), **uv_environment(cache)}
    if (uv := settings.get(UV_VARIABLE)) is None:
        _run([sys.executable, "-m", "venv", str(folder)], settings)
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *([] if compiled else ["--no-compile"]), *arguments], settings)
        return
    _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], settings)
    pip = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python")]
    _run([*pip, *(["--compile-bytecode"] if compiled else []), *arguments], settings)


def _run(command: list[str], settings: dict[str, str]) -> None:
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join(line.strip() for line in done.stderr.splitlines()[-3:])
        help_ = f"; set {INSTALLER_VARIABLE}=pip to use pip" if command[0] == settings.get(UV_VARIABLE) else ""
        raise EnvironmentSetupError(f"{Path(command[0]).name} {command[1]} failed: {last}{help_}")
