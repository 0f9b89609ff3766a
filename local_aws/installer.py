"""Choose the program that installs Python packages: uv if available, else pip. Uses the standard library only.

`python local_aws/installer.py CACHE` prints `uv_environment` as shell exports.
"""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UV_VARIABLE = "INFERENCE_UV"
"""Set for builds: path of the uv that installs their packages."""

INSTALLER_VARIABLE = "INFERENCE_INSTALLER"
"""`pip` disables uv."""

CONTAINER_VARIABLE = "INFERENCE_FAKE_INSTALLER"
"""Set for a container that installs packages when it starts: the variables for that as a JSON object, or `null` if the
container has no network. Without it, the container's own environment has them."""

_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
}
# Settings that decide where packages come from, or which ones, and that cannot be passed on to uv.
_PIP_ONLY = frozenset(
    {"client-cert", "keyring-provider", "no-binary", "no-index", "only-binary", "pre", "proxy", "require-hashes"}
)
_SECTIONS = ("global", "install", ":env:")


def uv_environment(cache: Path) -> dict[str, str]:
    """Return INFERENCE_UV and the variables that make uv use pip's sources; empty if pip must install.

    uv is taken from this interpreter's environment, else from PATH. It keeps its downloads in the cache folder, and
    environments there share its files. Variables that are already set are left out.
    """
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    configured = _configured()
    if uv is None or os.environ.get(INSTALLER_VARIABLE) == "pip" or _PIP_ONLY & configured.keys():
        return {}
    variables = {_NAMES[name]: value for name, value in configured.items() if name in _NAMES}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = ",".join(variables["UV_FIND_LINKS"].split())
    # pip takes the best version from all indexes. uv by default stops at the first index that has the package, which
    # may be a partial mirror, or AWS's index for the Neuron SDK without the pinned version. uv calls pip's way unsafe,
    # because one index can then offer a package under the name of another index's package. Hashes in the images'
    # requirements refuse such a package; builds pin exact versions.
    variables |= {UV_VARIABLE: uv, "UV_CACHE_DIR": str(cache / "uv"), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    return {name: value for name, value in variables.items() if name not in os.environ}


def _configured() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return settings_in(listed)


def settings_in(listed: str) -> dict[str, str]:
    """Return the install settings, by name, from the output of `pip config list`; environment variables win."""
    settings = sorted(_read(listed), key=lambda setting: _SECTIONS.index(setting[0]))
    return {name: value for _, name, value in settings}


def _read(listed: str) -> Iterator[tuple[str, str, str]]:
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, name = name.rpartition(".")
        if section in _SECTIONS:
            yield section, name, " ".join(str(ast.literal_eval(value)).split())


if __name__ == "__main__":
    for name, value in uv_environment(Path(sys.argv[1]).absolute()).items():
        print(f"export {name}={shlex.quote(value)}")
