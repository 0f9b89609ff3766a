"""Folders that this project made, and so may delete: each carries a marker that was written when it was empty."""

import os
import shutil
import subprocess
from pathlib import Path

MARKER = ".made-by-sagemaker-inference-stacks"
ACCOUNT = "state of a local account"
"""Purpose of an account's state folder."""
_TEXT = "This folder was made by sagemaker-inference-stacks, which may delete it with everything in it."


class FolderRefusedError(OSError):
    """A folder is not this project's to write to or delete; the message says why and what to do."""


def claim(folder: Path, purpose: str = "") -> None:
    """Create a folder and mark it; an empty or already marked one is taken as it is.

    purpose: what it is for; a folder that was marked for another purpose is refused. Raises FolderRefusedError, with
    nothing changed, and OSError.
    """
    require_claimable(folder, purpose)
    folder.mkdir(parents=True, exist_ok=True)
    if not is_marked(folder, purpose):
        (folder / MARKER).write_text(f"{_TEXT}\n{purpose}\n")


def require_claimable(folder: Path, purpose: str = "") -> None:
    """Raise FolderRefusedError for a folder that is neither new, nor empty, nor marked for that purpose."""
    _refuse_unless_real(folder)
    if folder.exists() and not is_marked(folder, purpose) and any(folder.iterdir()):
        raise FolderRefusedError(
            f"{folder} holds files that this project did not make: choose a folder that is new or empty"
        )


def remove(folder: Path, purpose: str = "") -> None:
    """Delete a marked folder with everything in it, and follow no link; no-op where there is none.

    Raises FolderRefusedError for a folder without the marker, before anything in it is touched, and OSError.
    """
    require_marked(folder, purpose)
    if not folder.exists():
        return
    # The marker goes last, so that what could not be deleted can be tried again.
    for entry in list(os.scandir(folder)):
        if entry.name != MARKER:
            _delete(Path(entry.path))
    (folder / MARKER).unlink()
    folder.rmdir()


def remove_within(owned: Path, folder: Path) -> None:
    """Delete a folder below a marked one, and follow no link; no-op where there is none.

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
    """Make a marked folder empty, or claim a new one; raises FolderRefusedError and OSError."""
    if is_marked(folder):
        remove(folder)
    claim(folder)


def require_marked(folder: Path, purpose: str = "") -> None:
    """Raise FolderRefusedError for a folder that exists without the marker for that purpose, or that is a link."""
    _refuse_unless_real(folder)
    if folder.exists() and not is_marked(folder, purpose):
        raise FolderRefusedError(
            f"{folder} is not deleted: it has no {MARKER} that says so, and this project did not make it; "
            "delete it yourself if that is what you want"
        )


def is_marked(folder: Path, purpose: str = "") -> bool:
    """Whether this user's own marker is in this user's own folder, for that purpose or, without one, for any."""
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
        raise FolderRefusedError(f"{folder} is a link: name the folder that it leads to")
    if folder.exists() and not folder.is_dir():
        raise FolderRefusedError(f"{folder} is not a folder: name one that is new or empty")


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except RecursionError:
        # Python goes down a tree by calling itself; rm does not, and follows no link either.
        subprocess.run(["rm", "-rf", "--", str(path)], check=True)
