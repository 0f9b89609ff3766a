"""Build steps that are skipped if a result for the same inputs exists."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCES = frozenset({".py", ".cc", ".h"})


@dataclass(frozen=True, slots=True)
class StepResult:
    """A finished step: its folder, and a key that identifies all of its inputs."""

    folder: Path
    key: str


class StepCache:
    """A cache of finished steps' folders by the hash of their inputs; an interrupted step leaves nothing."""

    def __init__(self, root: Path, log: Callable[[str], object]) -> None:
        self._root, self._log = root, log
        root.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, inputs: dict[str, Any], make: Callable[[Path], object]) -> StepResult:
        """Call `make` with an empty folder, unless the cache has the result for these inputs (JSON values)."""
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True).encode()).hexdigest()
        final = self._root / f"{name}-{key[:24]}"
        if final.is_dir():
            self._log(f"{name}: unchanged, taken from the cache")
            return StepResult(final, key)
        self._log(f"{name}: running")
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self._root))
        try:
            make(partial)
            # Another build with the same inputs may have finished first; its result is equivalent.
            if not final.is_dir():
                partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return StepResult(final, key)


def code_hash(*folders: Path) -> str:
    """Return the sha256 of the Python and C++ files below the folders, so changed code reuses no old results."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(file for file in folder.rglob("*") if file.suffix in _SOURCES):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
