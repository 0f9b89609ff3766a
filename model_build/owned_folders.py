"""Folders that this project created and so may delete: each has a marker, written when the folder was empty."""

import os
import shutil
import subprocess
from pathlib import Path

MARKER = ".made-by-sagemaker-inference-stacks"
ACCOUNT = "state of a local account"
"""Purpose of a local account's state folder."""
_TEXT = "This folder was made by sagemaker-inference-stacks, which may delete it with everything in it."


class FolderRefusedError(OSError):
    """A folder that this project may not write to or delete; the message gives the reason and the fix."""


def claim(folder: Path, purpose: str = "") -> None:
    """Create a folder and mark it; an existing one must be empty or already marked.

    purpose: purpose of the folder; a folder marked for another purpose is refused.
    Raises FolderRefusedError, with nothing changed, and OSError.
    """
    require_claimable(folder, purpose)
    folder.mkdir(parents=True, exist_ok=True)
    if not is_marked(folder, purpose):
        (folder / MARKER).write_text(f"{_TEXT}\n{purpose}\n")


def require_claimable(folder: Path, purpose: str = "") -> None:
    """Raise FolderRefusedError unless the folder is new, empty, or marked for this purpose."""
    _refuse_unless_real(folder)
    if folder.exists() and not is_marked(folder, purpose) and any(folder.iterdir()):
        raise FolderRefusedError(f"{folder} holds files that this project did not create: choose a new or empty folder")


def remove(folder: Path, purpose: str = "") -> None:
    """Delete a marked folder with everything in it, without following links; no-op if it does not exist.

    Raises FolderRefusedError for a folder without the marker, before anything in it is touched, and OSError.
    """
    require_marked(folder, purpose)
    if not folder.exists():
        return
    # The marker is deleted last, so a failed deletion can be retried.
    for entry in list(os.scandir(folder)):
        if entry.name != MARKER:
            _delete(Path(entry.path))
    (folder / MARKER).unlink()
    folder.rmdir()


def remove_within(owned: Path, folder: Path) -> None:
    """Delete a folder below a marked one, without following links; no-op if it does not exist.

    Raises FolderRefusedError for a folder elsewhere, and OSError.
    """
    require_marked(owned)
    inside = folder.parent.resolve().is_relative_to(owned.resolve())
    if not inside or folder.resolve() == owned.resolve() or not is_marked(owned):
        raise FolderRefusedError(f"{folder} is not deleted: it is not below {owned}")
    if folder.is_symlink():
        raise FolderRefusedError(f"{folder} is not deleted: it is a link")
    if folder.exists():
        _delete(folder)


def replace(folder: Path) -> None:
    """Empty a marked folder, or claim a new one; raises FolderRefusedError and OSError."""
    if is_marked(folder):
        remove(folder)
    claim(folder)


def require_marked(folder: Path, purpose: str = "") -> None:
    """Raise FolderRefusedError for a link, or for an existing folder without the marker for this purpose."""
    _refuse_unless_real(folder)
    if folder.exists() and not is_marked(folder, purpose):
        raise FolderRefusedError(
            f"{folder} is not deleted: it has no {MARKER} of this project; delete it yourself if you no longer need it"
        )


def is_marked(folder: Path, purpose: str = "") -> bool:
    """Return whether the folder and its marker belong to this user; any purpose matches an empty `purpose`."""
    marker = folder / MARKER
    if folder.is_symlink() or marker.is_symlink() or not marker.is_file():
        return False
    status = marker.stat()
    own = os.geteuid()
    if (folder.stat().st_uid, status.st_uid, status.st_nlink) != (own, own, 1):
        return False
    return not purpose or purpose in marker.read_text(errors="replace").splitlines()


def _refuse_unless_real(folder: Path) -> None:
    if folder.is_symlink():
        raise FolderRefusedError(f"{folder} is a link: name the folder that it points to")
    if folder.exists() and not folder.is_dir():
        raise FolderRefusedError(f"{folder} is not a folder: choose a new or empty folder")


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except RecursionError:
        # shutil.rmtree recurses into deep trees; rm does not, and does not follow links either.
        subprocess.run(["rm", "-rf", "--", str(path)], check=True)
