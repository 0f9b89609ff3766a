"""Folders that this project made, and so may delete: each carries a marker that was written when it was empty."""

import shutil
from pathlib import Path

MARKER = ".made-by-sagemaker-inference-stacks"
_TEXT = "This folder was made by sagemaker-inference-stacks, which may delete it with everything in it.\n"


class FolderRefusedError(OSError):
    """A folder is not this project's to write to or delete; the message says why and what to do."""


def claim(folder: Path) -> None:
    """Create a folder and mark it; an empty or already marked one is taken as it is.

    Raises FolderRefusedError for anything else, with nothing changed, and OSError.
    """
    require_claimable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_marked(folder):
        (folder / MARKER).write_text(_TEXT)


def require_claimable(folder: Path) -> None:
    """Raise FolderRefusedError for a folder that is neither new, nor empty, nor marked."""
    _refuse_unless_real(folder)
    if folder.exists() and not _is_marked(folder) and any(folder.iterdir()):
        raise FolderRefusedError(
            f"{folder} holds files that this project did not make: choose a folder that is new or empty"
        )


def remove(folder: Path) -> None:
    """Delete a marked folder with everything in it, and follow no link; no-op where there is none.

    Raises FolderRefusedError for a folder without the marker, before anything in it is touched, and OSError.
    """
    require_marked(folder)
    if folder.exists():
        shutil.rmtree(folder)


def remove_within(owned: Path, folder: Path) -> None:
    """Delete a folder below a marked one, and follow no link; no-op where there is none.

    Raises FolderRefusedError for a folder elsewhere, and OSError.
    """
    require_marked(owned)
    inside = folder.parent.resolve().is_relative_to(owned.resolve())
    if not inside or folder.resolve() == owned.resolve() or not _is_marked(owned):
        raise FolderRefusedError(f"{folder} is not deleted: it is not below {owned}")
    if folder.is_symlink():
        raise FolderRefusedError(f"{folder} is not deleted: it is a link")
    if folder.exists():
        shutil.rmtree(folder)


def replace(folder: Path) -> None:
    """Make a marked folder empty, or claim a new one; raises FolderRefusedError and OSError."""
    if _is_marked(folder):
        remove(folder)
    claim(folder)


def require_marked(folder: Path) -> None:
    """Raise FolderRefusedError for a folder that exists without the marker, or that is a link."""
    _refuse_unless_real(folder)
    if folder.exists() and not _is_marked(folder):
        raise FolderRefusedError(
            f"{folder} is not deleted: it has no {MARKER}, so this project did not make it; "
            "delete it yourself if that is what you want"
        )


def _refuse_unless_real(folder: Path) -> None:
    if folder.is_symlink():
        raise FolderRefusedError(f"{folder} is a link: name the folder that it leads to")
    if folder.exists() and not folder.is_dir():
        raise FolderRefusedError(f"{folder} is not a folder: name one that is new or empty")


def _is_marked(folder: Path) -> bool:
    marker = folder / MARKER
    return not folder.is_symlink() and marker.is_file() and not marker.is_symlink()
