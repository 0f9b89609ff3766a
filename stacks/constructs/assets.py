"""Choose the files that images, build sources and functions are made from, and copy just those for the CDK.

The CDK stages a folder as it is, with whatever a work tree collects: `.env`, keys, environments, caches, notes. Here an
allow-list of folders and names decides what may be shipped. Where git tracks the project, a file must be tracked too,
and one that is not is left out with a warning. Both rules give the same bytes, and so the same hash, for a clean
checkout and for a source archive without `.git`, such as CodePipeline hands to its synth. Git alone would not work
there; the allow-list alone would ship a scratch module. The pipeline's own source comes from the repository, so it
holds tracked files only: synth refuses to go on when git tracks a file that is named like a secret.

The CDK gets copies instead of ignore patterns, since it reads a `.dockerignore` of the folder, tracked or not.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aws_cdk import Annotations
from constructs import Construct

from stacks.settings.deployment import DeploymentError
from stacks.settings.security import find_secret

ROOT = Path(__file__).parents[2]
_NAMES = re.compile(
    r"Dockerfile|buildspec\.yml|requirements[\w-]*\.txt|[A-Za-z0-9_][\w-]*\.(py|json|sh|cc|h|safetensors)", re.ASCII
)
"""Names that may be shipped: one suffix, no leading dot, nothing that an editor appends."""
_FOLDER = re.compile(r"[A-Za-z]\w*", re.ASCII)
_GENERATED = frozenset({"build", "dist", "env", "node_modules", "venv", "virtualenv"})
_SECRET_NAMES = re.compile(
    r"(.*/)?(\.(aws|docker|kube)/(config(\.json)?|credentials)|\.(gnupg|ssh)/.*"
    r"|\.env(?!\.(example|sample|template)$)(\..*)?|[^/]+\.env"
    r"|[^/]+\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)|id_(rsa|dsa|ecdsa|ed25519)[^/]*"
    r"|([^/]*[._-])?(credentials?|secrets?)(\.(json|csv|ya?ml|ini|toml|txt))?"
    r"|(client_secret|service[_-]?account)[^/]*\.json"
    r"|[._]netrc|\.pypirc|\.git-credentials|\.htpasswd|\.pgpass|kubeconfig[^/]*|[^/]+\.kubeconfig)",
    re.IGNORECASE,
)
"""Paths of files that hold secrets by convention."""

_PRINTABLE = re.compile(rb"[\t -~]{16,}")
"""Text in a binary file, no shorter than a secret."""
_COPIES: list["tempfile.TemporaryDirectory[str]"] = []


class AssetError(DeploymentError):
    """A file must not be shipped, or one that must be is missing; the text names the file and the fix."""


@dataclass(frozen=True, slots=True)
class AssetSource:
    """Folders of the project that an asset takes its files from, as paths from the project's root.

    context: the folder that becomes the asset's root.
    folders: taken with the folders below them.
    flat: folders of which only the files directly inside are taken.
    without: folders below those that are left out.
    """

    context: str
    folders: tuple[str, ...]
    flat: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetFiles:
    """files: shipped, as paths from the project's root, sorted. warnings: one line each."""

    files: tuple[str, ...]
    warnings: tuple[str, ...]


def stage(scope: Construct, source: AssetSource) -> str:
    """Return a folder that holds only what the asset ships; warnings go to the scope. Raise AssetError."""
    chosen = choose_files(source, ROOT)
    for warning in chosen.warnings:
        Annotations.of(scope).add_warning_v2(f"assets:{warning.partition(':')[0]}", warning)
    return copy_files(chosen, source.context, ROOT)


def choose_files(source: AssetSource, root: Path) -> AssetFiles:
    """Return the files of an asset; raise AssetError for a secret among them and for a missing folder."""
    tracked = tracked_files(root)
    for path in sorted(tracked or ()):
        if _SECRET_NAMES.fullmatch(path) and not _is_certificate(root / path):
            raise AssetError(
                f"{path} is tracked by git and named like a file of secrets, which everybody who can read the "
                "repository would have: revoke them, run `git rm --cached` on it, and keep them in Secrets Manager "
                "(model_build.hub_token_secret)"
            )
    allowed = sorted(set(_allowed(source, root)))
    shipped = [path for path in allowed if tracked is None or path in tracked]
    for path in shipped:
        _refuse_secret(path, root)
    return AssetFiles(tuple(shipped), tuple(_warnings(source, root, tracked, allowed)))


def tracked_files(root: Path) -> frozenset[str] | None:
    """Return the paths in git's index below a folder, or None where there is no git or it tracks nothing there.

    The index needs no network. Variables of git are dropped: a hook sets them, and they would name another repository.
    """
    git = shutil.which("git")
    if git is None:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A build machine may own the checkout by another user; fsmonitor would start a program.
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    listed = subprocess.run(
        [git, *options, "ls-files", "-z"], cwd=root, env=environment, capture_output=True, timeout=60, check=False
    )
    if listed.returncode:
        return None
    return frozenset(os.fsdecode(path) for path in listed.stdout.split(b"\0") if path) or None


def copy_files(chosen: AssetFiles, context: str, root: Path) -> str:
    """Return a folder with copies of the files, which is deleted when the process ends, after the CDK staged it."""
    folder = tempfile.TemporaryDirectory(prefix="asset-")
    _COPIES.append(folder)
    for path in chosen.files:
        target = Path(folder.name, PurePosixPath(path).relative_to(context))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, target, follow_symlinks=False)
        # Git keeps one bit of the mode; the rest is this machine's umask.
        executable = (root / path).stat().st_mode & 0o100
        target.chmod(0o755 if executable else 0o644)
    return folder.name


def _allowed(source: AssetSource, root: Path) -> Iterator[str]:
    """Yield the files that the allow-list admits: no symbolic links, and nothing below one."""
    for name in (*source.folders, *source.flat):
        top = root / name
        if not top.is_dir() or _is_linked(root, name):
            raise AssetError(f"{name} is not a folder of the project: restore it, a symbolic link is not followed")
        for found, folders, files in os.walk(top):
            relative = Path(found).relative_to(root)
            folders[:] = [] if name in source.flat else [
                each for each in folders if _may_enter(Path(found, each)) and str(relative / each) not in source.without
            ]  # fmt: skip
            for file in files:
                path = Path(found, file)
                if _NAMES.fullmatch(file) and path.is_file() and not path.is_symlink():
                    yield (relative / file).as_posix()


def _is_linked(root: Path, name: str) -> bool:
    return any((root / part).is_symlink() for part in (name, *map(str, PurePosixPath(name).parents)) if part != ".")


def _may_enter(folder: Path) -> bool:
    if folder.is_symlink() or not _FOLDER.fullmatch(folder.name) or folder.name.lower() in _GENERATED:
        return False
    return not (folder / "pyvenv.cfg").exists()


def _is_certificate(path: Path) -> bool:
    """Return whether a file is a certificate without its key, such as that of an authority."""
    if path.suffix != ".pem" or not path.is_file():
        return False
    content = path.read_bytes()
    return b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY" not in content


def _refuse_secret(path: str, root: Path) -> None:
    if _SECRET_NAMES.fullmatch(path):
        raise AssetError(
            f"{path} is named like a file of secrets and would be shipped: move it out of the project, or rename it if "
            "it holds none"
        )
    content = (root / path).read_bytes()
    is_binary = b"\0" in content
    if is_binary:
        content = b"\n".join(_PRINTABLE.findall(content))
    found = find_secret(content.decode("latin-1"))
    if found is not None:
        kind, line = found
        where = path if is_binary else f"{path}, line {line},"
        raise AssetError(
            f"{where} holds what looks like {kind}, which would be shipped: revoke it, remove it from the file, and "
            "read it from Secrets Manager when it is needed (model_build.hub_token_secret)"
        )


def _warnings(source: AssetSource, root: Path, tracked: frozenset[str] | None, allowed: list[str]) -> Iterator[str]:
    if tracked is None:
        if (root / ".git").exists():
            yield "git-failed: git cannot list this checkout, so untracked files cannot be told apart: install git"
        return
    if untracked := [path for path in allowed if path not in tracked]:
        yield f"untracked: left out, as git does not track it; `git add` what is to be shipped: {', '.join(untracked)}"
    below = tuple(f"{folder}/" for folder in source.folders)
    without = tuple(f"{folder}/" for folder in source.without)
    unknown = sorted(
        path
        for path in tracked.difference(allowed)
        if path.startswith(below) and not path.startswith(without) and os.path.lexists(root / path)
    )
    if unknown:
        yield (
            "not-allowed: left out, as no name in stacks/constructs/assets.py admits it, or as it is a symbolic link; "
            f"add its suffix there if it is to be shipped: {', '.join(unknown)}"
        )
