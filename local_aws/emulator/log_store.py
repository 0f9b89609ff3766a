"""Events of CloudWatch Logs on disk, by stream."""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex, TypedDict, overload

from local_aws.emulator import databases

_PAGE = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (id INTEGER PRIMARY KEY AUTOINCREMENT, events INTEGER, bytes INTEGER);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER, timestamp INTEGER, ingested INTEGER, message TEXT
);
CREATE INDEX IF NOT EXISTS in_order ON events (stream, timestamp, id);
"""
_Row = tuple[int, int, int, str]


class Event(TypedDict):
    """A log event as MiniStack holds it; times are in milliseconds since 1970."""

    timestamp: int
    message: str
    ingestionTime: int
    eventId: str


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event found by its ID."""

    stream: int
    timestamp: int
    message: str


class LogStore:
    """The log events of an account, in a file that later processes read again. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self.changes = 0
        """Number of changes to the events, so a reader can tell whether what it holds is current."""
        self._database = databases.open_private(path, _SCHEMA)
        self._lock = threading.Lock()

    def new_stream(self) -> int:
        """Add an empty stream, and return its ID."""
        with self._lock, self._database:
            return int(self._database.execute("INSERT INTO streams (events, bytes) VALUES (0, 0)").lastrowid or 0)

    def append(self, stream: int, events: Sequence[tuple[int, int, str]]) -> list[str]:
        """Store events, each as its time, the time of its arrival, and its message; return their IDs."""
        with self._lock, self._database:
            ids = [
                self._database.execute(
                    "INSERT INTO events (stream, timestamp, ingested, message) VALUES (?, ?, ?, ?)", (stream, *event)
                ).lastrowid
                for event in events
            ]
            self.changes += 1
            size = sum(len(message) for *_, message in events)
            self._database.execute(
                "UPDATE streams SET events = events + ?, bytes = bytes + ? WHERE id = ?", (len(events), size, stream)
            )
        return [_event_id(id or 0) for id in ids]

    def count(self, stream: int) -> int:
        """Return the number of a stream's events."""
        return self._of(stream)[0]

    def size(self, stream: int) -> int:
        """Return the characters in a stream's messages."""
        return self._of(stream)[1]

    def _of(self, stream: int) -> tuple[int, int]:
        with self._lock:
            row = self._database.execute("SELECT events, bytes FROM streams WHERE id = ?", (stream,)).fetchone()
        return row or (0, 0)

    def page(self, stream: int, first: int, most: int) -> list[Event]:
        """Return up to `most` events of a stream by time, without the `first` oldest ones."""
        with self._lock:
            rows: list[_Row] = self._database.execute(
                "SELECT id, timestamp, ingested, message FROM events WHERE id IN"
                " (SELECT id FROM events WHERE stream = ? ORDER BY timestamp, id LIMIT ? OFFSET ?)"
                " ORDER BY timestamp, id",
                (stream, most, first),
            ).fetchall()
        return [_event(*row) for row in rows]

    def find(self, event_id: str) -> StoredEvent | None:
        """Return an event by its ID, or None."""
        if not event_id.isdecimal():
            return None
        with self._lock:
            row = self._database.execute(
                "SELECT stream, timestamp, message FROM events WHERE id = ?", (int(event_id) % 2**63,)
            ).fetchone()
        return None if row is None else StoredEvent(*row)

    def expire(self, stream: int, before: int) -> None:
        """Delete a stream's events before a time in milliseconds since 1970."""
        with self._lock, self._database:
            old = (stream, before)
            events, size = self._database.execute(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM events WHERE stream = ? AND timestamp < ?", old
            ).fetchone()
            if events:
                self.changes += 1
                self._database.execute("DELETE FROM events WHERE stream = ? AND timestamp < ?", old)
                self._database.execute(
                    "UPDATE streams SET events = events - ?, bytes = bytes - ? WHERE id = ?", (events, size, stream)
                )

    def keep_only(self, streams: Collection[int]) -> None:
        """Delete the events of all other streams."""
        with self._lock, self._database:
            known = {id for (id,) in self._database.execute("SELECT id FROM streams")}
            for gone in known - set(streams):
                self._database.execute("DELETE FROM events WHERE stream = ?", (gone,))
                self._database.execute("DELETE FROM streams WHERE id = ?", (gone,))


class StreamEvents(Sequence[Event]):
    """A stream's events, oldest first, read page by page: what takes the place of MiniStack's list of them.

    A saved state holds none of them, because the store itself lasts.
    """

    def __init__(self, store: LogStore, stream: int) -> None:
        self.stream = stream
        self._store = store
        self._page: tuple[int, int, list[Event]] = (-1, -1, [])

    def __len__(self) -> int:
        return self._store.count(self.stream)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Event | list[Event]:
        """Return one event, or those of a slice without a step."""
        if isinstance(index, slice):
            first, last, _ = index.indices(len(self))
            return self._store.page(self.stream, first, max(0, last - first))
        number = index.__index__()
        number += len(self) if number < 0 else 0
        if number < 0:
            raise IndexError(number)
        first = number // _PAGE * _PAGE
        page, then, events = self._page
        if (page, then) != (first, self._store.changes):
            then = self._store.changes
            events = self._store.page(self.stream, first, _PAGE)
            self._page = first, then, events
        return events[number - first]

    def __iter__(self) -> Iterator[Event]:
        first = 0
        while events := self._store.page(self.stream, first, _PAGE):
            yield from events
            first += len(events)

    def __deepcopy__(self, _: object) -> list[Event]:
        return []


def _event_id(number: int) -> str:
    return f"{number:056}"


def _event(number: int, timestamp: int, ingested: int, message: str) -> Event:
    return {"timestamp": timestamp, "message": message, "ingestionTime": ingested, "eventId": _event_id(number)}
