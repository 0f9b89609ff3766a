"""Virtual environments kept in the cache under the hash of their requirements."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path


class EnvironmentSetupError(RuntimeError):
    """An environment could not be made; the message quotes pip's last lines."""


def environment(cache: Path, name: str, requirements: Path, *pip_options: str) -> Path:
    """The environment's folder; made on first use, and made again when it was interrupted.

    Raises EnvironmentSetupError.
    """
    content = b"".join(path.read_bytes() for path in _with_included(requirements))
    key = hashlib.sha256(content + repr((sys.version_info[:3], pip_options)).encode()).hexdigest()[:16]
    folder = cache / "envs" / f"{name}-{key}"
    ready = folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            print(f"installing {requirements.name} for {name}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, *pip_options, "-r", str(requirements)])
            ready.touch()
    return folder


def _with_included(requirements: Path) -> list[Path]:
    """A requirements file and those that its `-r` lines name."""
    included = [
        requirements.parent / line.split()[1]
        for line in requirements.read_text().splitlines()
        if line.startswith(("-r ", "--requirement "))
    ]
    return [requirements, *(path for child in included for path in _with_included(child))]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join(line for line in done.stderr.splitlines()[-3:])
        raise EnvironmentSetupError(f"{Path(command[0]).name} {command[1]} failed: {last}")
