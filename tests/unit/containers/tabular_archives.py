"""Extracted archives of the tabular container's models."""

from pathlib import Path
from typing import Any

Document = dict[str, Any]
"""A model as JSON."""


def archive(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
