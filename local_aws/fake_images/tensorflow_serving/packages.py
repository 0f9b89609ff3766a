"""Install the packages of an archive's code/requirements.txt, as SageMaker's container does when it starts."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from local_aws.fake_images.tensorflow_serving.settings import SettingsError
from local_aws.installer import CONTAINER_VARIABLE, UV_VARIABLE

_REASON_LINES = 3


def install(requirements: Path, folder: Path) -> None:
    """Install what is missing into a folder; raise SettingsError.

    Every replica has a folder of its own, because all replicas share the environment.
    """
    variables = json.loads(os.environ.get(CONTAINER_VARIABLE, "{}"))
    if variables is None:
        raise SettingsError(
            "code/requirements.txt cannot be installed: the model has EnableNetworkIsolation, so its container reaches "
            "no package index; put the packages into code/lib, or set EnableNetworkIsolation to false"
        )
    text = requirements.read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    # Options, such as -r, refer to the file that they are in.
    missing = lines if any(line.startswith("-") for line in lines) else [line for line in lines if not _present(line)]
    if not missing:
        print("code/requirements.txt: all packages are installed already", flush=True)
        return
    print(f"installing packages from code/requirements.txt: {', '.join(missing)}", flush=True)
    listed = requirements
    if missing != lines:
        listed = folder.with_suffix(".txt")
        listed.write_text("\n".join(missing))
    done = subprocess.run(
        [*_installer(variables), "--quiet", "--target", str(folder), "-r", str(listed)],
        cwd=requirements.parent,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(line.strip() for line in done.stderr.splitlines()[-_REASON_LINES:])
        raise SettingsError(f"failed to install required packages: code/requirements.txt: {reason}")


def _installer(variables: Mapping[str, str]) -> list[str]:
    if uv := variables.get(UV_VARIABLE) or os.environ.get(UV_VARIABLE):
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]


def _present(line: str) -> bool:
    """Return whether a line needs no installation: its package is there, or its marker excludes this machine."""
    try:
        requirement = Requirement(line.partition(" #")[0].strip())
        if requirement.marker is not None and not requirement.marker.evaluate():
            return True
        version = metadata.version(requirement.name)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False
    return requirement.url is None and requirement.specifier.contains(version, prereleases=True)
