"""Verify a build's cache against the hashes of an earlier build: `build_cache.py verify|record CACHE URL`.

CodeBuild restores environments and finished steps from S3, and a build would run whatever is there. So each build
records the hashes of its cache entries under its workload's prefix, where only builds may write. The next build deletes
entries that are not recorded or have another hash, and rebuilds them. This module uses only the standard library and
the AWS CLI, since the cache cannot be used before it is verified.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

PARTS = ("venvs", "steps")
"""Folders of the cache; each of their entries is verified separately."""
_CHUNK = 1 << 20


def tree_hash(folder: Path) -> str:
    """Return the sha256 of a folder: names, types, executable bits, contents of files and targets of links.

    Raises OSError, also for anything that is not a file, a folder or a link.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0")
        if stat.S_ISLNK(status.st_mode):
            digest.update(b"link\0" + os.fsencode(path.readlink()) + b"\0")
        elif stat.S_ISDIR(status.st_mode):
            digest.update(b"folder\0")
        elif stat.S_ISREG(status.st_mode):
            digest.update(b"file\0" + (b"x" if status.st_mode & 0o100 else b"-") + _file_hash(path))
        else:
            raise OSError(f"{path} is not a file, a folder or a link")
    return digest.hexdigest()


def _file_hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.digest()


def entries(cache: Path) -> "dict[str, Path]":
    """Return the cache's entries by name, such as `venvs/encoder-0123`."""
    return {
        f"{part}/{path.name}": path
        for part in PARTS
        if (cache / part).is_dir()
        for path in sorted((cache / part).iterdir())
    }


def verify(cache: Path, recorded: "dict[str, str]") -> "list[str]":
    """Delete every entry that is not recorded with its hash, and return one message for each.

    Lock files and links are deleted without a message. Raises OSError.
    """
    deleted = []
    if cache.is_symlink() or any((cache / part).is_symlink() for part in PARTS):
        raise OSError(f"{cache}, or {' or '.join(PARTS)} in it, is a symbolic link: delete the link")
    for name, path in entries(cache).items():
        if path.is_symlink() or not path.is_dir():
            # Lock files of environments are empty and never read; links are not trusted.
            path.unlink()
            continue
        known = recorded.get(name)
        try:
            if known is not None and tree_hash(path) == known:
                continue
        except (OSError, RecursionError):
            known = "unreadable"
        subprocess.run(["rm", "-rf", "--", str(path)], check=True)
        reason = "no build recorded it" if known is None else "its hash differs from the recorded one"
        deleted.append(f"cache: {name} was deleted and will be rebuilt: {reason}")
    return deleted


def record(cache: Path) -> "dict[str, str]":
    """Return the hash of every finished entry."""
    return {name: tree_hash(path) for name, path in entries(cache).items() if path.is_dir() and not path.is_symlink()}


def _download(url: str) -> "dict[str, str]":
    """Read a record from S3; empty if there is none or it cannot be read."""
    done = subprocess.run(["aws", "s3", "cp", "--quiet", url, "-"], capture_output=True, check=False)
    try:
        content = json.loads(done.stdout) if done.returncode == 0 else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def main(arguments: "list[str]") -> int:
    """Run one command and return its exit code."""
    if len(arguments) != 3 or arguments[0] not in ("verify", "record"):
        print("usage: build_cache.py verify|record CACHE s3://BUCKET/KEY", file=sys.stderr)
        return 2
    command, cache, url = arguments[0], Path(arguments[1]), arguments[2]
    try:
        if command == "verify":
            for line in verify(cache, _download(url)):
                print(line, flush=True)
            return 0
        content = json.dumps(record(cache), indent=1, sort_keys=True).encode()
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return subprocess.run(["aws", "s3", "cp", "--quiet", "-", url], input=content, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
