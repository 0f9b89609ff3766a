"""Which program installs Python packages: uv where it is, else pip. Takes the standard library only.

`python local_aws/installer.py CACHE` prints the exports of `uv_environment`.
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
"""Set for builds: the uv that installs their packages."""

INSTALLER_VARIABLE = "INFERENCE_INSTALLER"
"""`pip` keeps uv out."""

_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
}
# What decides where packages come from or which they are, and is not told to uv.
_PIP_ONLY = frozenset(
    {"client-cert", "keyring-provider", "no-binary", "no-index", "only-binary", "pre", "proxy", "require-hashes"}
)
_SECTIONS = ("global", "install", ":env:")


def uv_environment(cache: Path) -> dict[str, str]:
    """INFERENCE_UV, and the variables with which uv looks where pip looks; none where pip is to install.

    uv is that of this interpreter's environment or of PATH. It keeps what it downloads in the cache's folder, and
    environments there share its files. Variables that are set already are left out.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    configured = _configured()
    if uv is None or os.environ.get(INSTALLER_VARIABLE) == "pip" or _PIP_ONLY & configured.keys():
        return {}
    told = {_NAMES[name]: value for name, value in configured.items() if name in _NAMES}
    if "UV_FIND_LINKS" in told:
        told["UV_FIND_LINKS"] = ",".join(told["UV_FIND_LINKS"].split())
    # pip takes the best version of all places; uv by default that of the first place that has any, which may be a
    # partial mirror, or AWS's index for the Neuron SDK without the version that is pinned. uv calls that unsafe, since
    # a place can then offer a package of another place's name. The requirements of images have hashes, which refuse
    # such a package; those of builds have exact versions.
    told |= {UV_VARIABLE: uv, "UV_CACHE_DIR": str(cache / "uv"), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    return {name: value for name, value in told.items() if name not in os.environ}


def _configured() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return settings_in(listed)


def settings_in(listed: str) -> dict[str, str]:
    """By their names, the settings in what `pip config list` prints that say how to install; a variable wins."""
    settings = sorted(_read(listed), key=lambda found: _SECTIONS.index(found[0]))
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
