"""Base image of the images: Docker's python:3.11-slim, or a substitute made of Debian and this machine's CPython."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_aws.podman.engine import EngineError, Podman

OFFICIAL = "public.ecr.aws/docker/library/python:3.11-slim"
SUBSTITUTE = "localhost/python-substitute:3.11"
_PULL_SECONDS = 60
_VERSION = (3, 11)
_LIBRARIES = (
    "ca-certificates", "netbase", "tzdata", "libssl3", "libsqlite3-0", "libffi8", "libbz2-1.0", "liblzma5",
    "libreadline8", "libncursesw6", "libuuid1", "zlib1g", "libexpat1", "libnsl2",
    "usr-is-merged",
)  # fmt: skip
"""Libraries that CPython's extension modules link to, and the package that marks a merged /usr."""
_LEFT_OUT = (
    "./lib/python3.11/site-packages", "./lib/python3.11/test", "./lib/python3.11/idlelib", "./lib/python3.11/tkinter",
    "./lib/python3.11/turtledemo", "./lib/python3.11/lib2to3/tests", "*/config-3.11-*", "*.a", "_tkinter*.so",
    "_test*.so", "__pycache__", "./lib/pkgconfig",
)  # fmt: skip
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_PIP_CONF = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"
_FINISH = """
ldconfig
update-ca-certificates >/dev/null 2>&1
python3 -m ensurepip >/dev/null 2>&1
ln -sf pip3 /usr/local/bin/pip
find /usr/local -name __pycache__ -type d -prune -exec rm -rf {} +
python3 -c "import ssl, sqlite3, ctypes, lzma, bz2, readline, uuid"
"""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """Image that FROM names. note: shown in every table if the base is not the one that its Dockerfile names."""

    name: str
    note: str = ""


def prepare(podman: Podman, wanted: str | None, report: Callable[[str], None]) -> BaseImage:
    """Return the base image, and make sure it is in the store.

    wanted: the image to use; None means the official one, or a substitute if that cannot be pulled. report: called with
    one line before each slow step. Raises EngineError.
    """
    if wanted is not None:
        if not podman.has_image(wanted):
            report(f"pulling {wanted}")
            podman.call("pull", wanted)
        return BaseImage(_pinned(podman, wanted))
    present = in_store(podman)
    if present is not None:
        return present
    report(f"pulling {OFFICIAL}")
    try:
        podman.call("pull", "--quiet", OFFICIAL, timeout=_PULL_SECONDS)
    except EngineError:
        report(f"no registry has {OFFICIAL} for this machine: building a substitute")
        return make_substitute(podman)
    return BaseImage(_pinned(podman, OFFICIAL))


def in_store(podman: Podman) -> BaseImage | None:
    """Return the official image or the substitute, if either was prepared before."""
    if podman.has_image(OFFICIAL):
        return BaseImage(_pinned(podman, OFFICIAL))
    return BaseImage(SUBSTITUTE, _note()) if podman.has_image(SUBSTITUTE) else None


def _note() -> str:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return f"a substitute for python:3.11-slim: Debian's packages with this machine's CPython {version}"


def _pinned(podman: Podman, name: str) -> str:
    """Return the reference by digest, or the name if no registry gave a digest."""
    digests = podman.call("image", "inspect", "--format", '{{join .RepoDigests " "}}', name).split()
    return digests[0] if digests else name


def make_substitute(podman: Podman) -> BaseImage:
    """Build the substitute from this machine's own apt sources; raise EngineError."""
    prefix = Path(sys.base_prefix)
    if sys.version_info[:2] != _VERSION or prefix == Path("/usr"):
        raise EngineError(
            f"building a substitute needs CPython 3.11 in its own folder, but this one is {sys.version.split()[0]} in "
            f"{prefix}: use --base-image with an image that podman can pull, or run with such a Python"
        )
    if shutil.which("mmdebstrap") is None:
        raise EngineError("building a substitute needs mmdebstrap, which is missing: run `apt-get install mmdebstrap`")
    # In memory if possible: none of it needs to reach the disk before the import.
    memory = Path("/dev", "shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="base-") as folder:
        root = Path(folder) / "root"
        _debootstrap(Path(folder), root)
        _copy_python(prefix, root)
        _finish(root)
        with subprocess.Popen(
            ["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE
        ) as archive:
            _run(
                [
                    podman.program, "import", "--quiet", "--change=ENV LANG=C.UTF-8", '--change=CMD ["python3"]',
                    "--change=ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "-", SUBSTITUTE,
                ],
                env=podman.environment,
                stdin=archive.stdout,
            )  # fmt: skip
    return BaseImage(SUBSTITUTE, _note())


def _debootstrap(folder: Path, root: Path) -> None:
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    suite = release.get("VERSION_CODENAME", "bookworm").strip('"')
    sources = [str(path) for path in (Path("/etc/apt/sources.list"), _deb822()) if path.is_file()]
    _run(
        [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(_LIBRARIES)}",
            # Otherwise a package merges /usr, and that package needs all of Perl.
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            '--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")),
            suite, str(root), *sources,
        ],
        env={"TMPDIR": str(folder), "PATH": os.environ["PATH"]},
    )  # fmt: skip


def _deb822() -> Path:
    folder = Path("/etc/apt/sources.list.d")
    return next((path for path in (folder / "debian.sources", folder / "ubuntu.sources") if path.is_file()), folder)


def _copy_python(prefix: Path, root: Path) -> None:
    target = root / "usr/local"
    (target / "lib/python3.11/site-packages").mkdir(parents=True, exist_ok=True)
    left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    with subprocess.Popen(
        ["tar", "-C", str(prefix), "--owner=0", "--group=0", *left_out, "-c", "./bin/python3.11", "./lib"],
        stdout=subprocess.PIPE,
    ) as archive:
        _run(["tar", "-C", str(target), "-x"], stdin=archive.stdout)
    if shutil.which("strip"):
        libraries = [str(path) for path in (target / "lib").rglob("*.so*") if not path.is_symlink()]
        _run(["strip", "--strip-unneeded", *libraries])
    (target / "bin/python3").symlink_to("python3.11")
    (target / "bin/python").symlink_to("python3")


def _finish(root: Path) -> None:
    """Install the certificates of networks that intercept HTTPS, and pip."""
    for certificate in _CERTIFICATES.glob("*.crt"):
        shutil.copy(certificate, root / "usr/local/share/ca-certificates")
    (root / "etc/pip.conf").write_text(_PIP_CONF)
    _run(["chroot", str(root), "sh", "-ec", _FINISH], env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    for folder in ("var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for file in ("etc/resolv.conf", "etc/hostname"):
        (root / file).unlink(missing_ok=True)


def _run(command: list[str], *, env: dict[str, str] | None = None, stdin: IO[bytes] | None = None) -> None:
    done = subprocess.run(command, env=env, stdin=stdin or subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        last = " | ".join(done.stderr.decode(errors="replace").strip().splitlines()[-5:])
        raise EngineError(f"{Path(command[0]).name} ended with exit code {done.returncode}: {last}")
