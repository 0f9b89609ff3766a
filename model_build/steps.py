"""Build steps that are skipped when a finished result for the same inputs exists."""

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
    """A finished step: its folder, and a key that stands for everything that went into it."""

    folder: Path
    key: str


class StepCache:
    """Keeps each finished step's folder under the hash of its inputs; an interrupted step leaves nothing."""

    def __init__(self, root: Path, log: Callable[[str], object]) -> None:
        self._root, self._log = root, log
        root.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, inputs: dict[str, Any], make: Callable[[Path], object]) -> StepResult:
        """Calls `make` with an empty folder, unless the step is already done for these inputs (JSON values)."""
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True).encode()).hexdigest()
        final = self._root / f"{name}-{key[:24]}"
        if final.is_dir():
            self._log(f"{name}: unchanged, taken from the cache")
            return StepResult(final, key)
        self._log(f"{name}: running")
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self._root))
        try:
            make(partial)
            # Another build of the same inputs may have finished first: its result is as good.
            if not final.is_dir():
                partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return StepResult(final, key)


def code_hash(*folders: Path) -> str:
    """sha256 over the Python and C++ files below the folders: changed code must not find old results."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(found for found in folder.rglob("*") if found.suffix in _SOURCES):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
