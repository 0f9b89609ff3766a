"""SQLite files of what would fill the emulator's memory: readable by their owner alone, and by the next process."""

import contextlib
import sqlite3
from pathlib import Path

from local_aws.private_files import create_private

_CACHE_KIB = 2048


def open_private(path: Path, schema: str) -> sqlite3.Connection:
    """Open a database for use by all threads, one at a time, and create it with mode 0600 if it does not exist.

    It survives the end of this process, though not of the machine: the account ends with that, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite gives its journal files the mode of the database.
    with contextlib.suppress(FileExistsError):
        create_private(path).close()
    database = sqlite3.connect(path, check_same_thread=False)
    database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB};")
    database.executescript(schema)
    return database
