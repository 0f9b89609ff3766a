"""Files and folders that only their owner can read."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

OWNER_ONLY = 0o700
_FILE = 0o600
_WRITABLE_BY_OTHERS = 0o022


def make_private(folder: Path) -> None:
    """Create a folder with mode 0700, or set that mode on an existing one.

    Raises OSError; PermissionError for a folder of another user, who could read it whatever its mode; and
    NotADirectoryError for a symbolic link.
    """
    if folder.is_symlink():
        raise NotADirectoryError(f"{folder} is a symbolic link: name the folder that it points to")
    folder.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to user {status.st_uid}: choose a folder of your own")
    if status.st_mode & 0o777 != OWNER_ONLY:
        folder.chmod(OWNER_ONLY)


def make_parts_private(folder: Path, names: Iterable[str]) -> None:
    """Set mode 0700 on the given subfolders, and on the folder itself if it is new.

    An existing folder keeps its mode, since it may hold other things. Raises OSError, and PermissionError for a folder
    that others can write to.
    """
    if not folder.exists():
        make_private(folder)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _WRITABLE_BY_OTHERS:
        raise PermissionError(
            f"{folder} is writable by other users: choose a folder of your own, with mode 0755 or less"
        )
    for name in names:
        make_private(folder / name)


def create_private(path: Path) -> BinaryIO:
    """Open a new file for writing with mode 0600; raise FileExistsError if the path exists, even as a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE)
    return os.fdopen(descriptor, "wb")
