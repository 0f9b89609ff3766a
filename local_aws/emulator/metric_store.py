"""CloudWatch's metrics on disk: aggregated as they arrive, thinned as they age, and expired.

Source: "Metrics retention" in the CloudWatch user guide, "CloudWatch concepts", and StorageResolution in the API
reference of PutMetricData.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local_aws.emulator import databases
from local_aws.emulator.metric_points import Datum, Metric, Point, merged, pack, unpack
from local_aws.emulator.statistics import Samples

_HOUR, _DAY = 3600, 86_400


@dataclass(frozen=True, slots=True)
class _Age:
    """Datapoints of a period are kept for some time, then merged into longer ones. `into`: None if they are dropped."""

    period: int
    kept: int
    into: int | None


RETENTION = (
    _Age(1, 3 * _HOUR, 60),
    _Age(60, 15 * _DAY, 300),
    _Age(300, 63 * _DAY, 3600),
    _Age(3600, 455 * _DAY, None),
)
_LISTED_SECONDS = 14 * _DAY
"""ListMetrics omits metrics without newer data (API reference)."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (
    id INTEGER PRIMARY KEY, scope TEXT, namespace TEXT, name TEXT, dimensions TEXT, newest REAL,
    UNIQUE (scope, namespace, name, dimensions)
);
CREATE TABLE IF NOT EXISTS points (
    metric INTEGER, start INTEGER, period INTEGER, slot INTEGER, unit TEXT, at REAL, count REAL, total REAL, low REAL,
    high REAL, seen BLOB, PRIMARY KEY (metric, start, period, slot, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS aging ON points (period, start);
"""
_COLUMNS = "at, count, total, low, high, seen"
_Key = tuple[int, int, int, int, str]
"""Metric, start, period, slot and unit."""


class MetricStore:
    """The metrics of an account, in a file that later processes read again. Safe to use from any thread.

    scale: how many times faster than real time alarms pass. Above 1 their periods last less than a minute, so
    datapoints keep one second of an alarm's time until they are thinned.
    """

    def __init__(self, path: Path, scale: float = 1.0) -> None:
        self._scale = scale
        self._database = databases.open_private(path, _SCHEMA)
        self._lock = threading.Lock()

    def add(self, scope: str, data: Iterable[Datum]) -> None:
        """Add data to the metrics of a scope, which is an account and region."""
        with self._lock, self._database:
            arrived: defaultdict[_Key, list[Datum]] = defaultdict(list)
            newest: dict[Metric, float] = {}
            for datum in data:
                newest[datum.metric] = max(datum.at, newest.get(datum.metric, datum.at))
                arrived[self._key(scope, datum)].append(datum)
            for key, some in arrived.items():
                self._merge(key, [(datum.at, datum.samples) for datum in some])
            for metric, at in newest.items():
                self._database.execute(
                    "UPDATE metrics SET newest = MAX(newest, ?) WHERE id = ?", (at, self._id(scope, metric))
                )

    def points(
        self, scope: str, metric: Metric, since: float, until: float = float("inf"), unit: str | None = None
    ) -> list[Point]:
        """Return the datapoints of periods that begin from `since` to before `until`, oldest first.

        unit: None for those of every unit.
        """
        with self._lock:
            rows = self._database.execute(
                f"SELECT start, unit, {_COLUMNS} FROM points WHERE metric = ? AND start >= ? AND start < ?"
                " AND unit = COALESCE(?, unit) ORDER BY at",
                (self._find(scope, metric), since, until, unit),
            ).fetchall()
        return [Point(start, at, unit, _samples(*row)) for start, unit, at, *row in rows]

    def metrics(self, scope: str, now: float) -> list[tuple[Metric, float]]:
        """Return the metrics with data in the last two weeks, in a stable order, each with its newest timestamp."""
        with self._lock:
            rows = self._database.execute(
                "SELECT namespace, name, dimensions, newest FROM metrics WHERE scope = ? AND newest >= ? ORDER BY id",
                (scope, now - _LISTED_SECONDS),
            ).fetchall()
        return [(Metric(namespace, name, _pairs(text)), newest) for namespace, name, text, newest in rows]

    def age(self, now: float) -> None:
        """Merge datapoints that are too old for their period, and drop those that are too old for any."""
        with self._lock, self._database:
            for age in RETENTION:
                self._thin(age, int(now) - age.kept)
            self._database.execute(
                "DELETE FROM metrics WHERE NOT EXISTS (SELECT 1 FROM points WHERE metric = metrics.id)"
            )

    def _thin(self, age: _Age, before: int) -> None:
        if age.into is None:
            self._database.execute("DELETE FROM points WHERE period = ? AND start < ?", (age.period, before))
            return
        # Whole periods, so no later datapoint belongs to one that has been merged.
        whole = before // age.into * age.into
        old = (age.period, whole)
        rows = self._database.execute(
            f"SELECT metric, start / {age.into} * {age.into}, unit, {_COLUMNS} FROM points INDEXED BY aging"
            " WHERE period = ? AND start < ?",
            old,
        ).fetchall()
        together: defaultdict[_Key, list[tuple[float, Samples]]] = defaultdict(list)
        for metric, start, unit, at, *row in rows:
            together[metric, start, age.into, 0, unit].append((at, _samples(*row)))
        for key, parts in together.items():
            self._merge(key, parts)
        self._database.execute("DELETE FROM points WHERE period = ? AND start < ?", old)

    def _merge(self, key: _Key, parts: list[tuple[float, Samples]]) -> None:
        kept = self._database.execute(
            f"SELECT {_COLUMNS} FROM points WHERE metric = ? AND start = ? AND period = ? AND slot = ? AND unit = ?",
            key,
        ).fetchone()
        if kept is not None:
            parts = [(kept[0], _samples(*kept[1:])), *parts]
        samples = merged([part for _, part in parts])
        at = max(moment for moment, _ in parts)
        row = (at, samples.count, samples.total, samples.low, samples.high, pack(samples))
        self._database.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *row))

    def _key(self, scope: str, datum: Datum) -> _Key:
        period = datum.resolution if self._scale == 1 else 1
        start = int(datum.at // period) * period
        slot = 0 if self._scale == 1 else int(datum.at * self._scale)
        return self._id(scope, datum.metric), start, period, slot, datum.unit

    def _id(self, scope: str, metric: Metric) -> int:
        if (found := self._find(scope, metric)) is not None:
            return found
        row = (scope, metric.namespace, metric.name, json.dumps(metric.dimensions), 0.0)
        added = self._database.execute(
            "INSERT INTO metrics (scope, namespace, name, dimensions, newest) VALUES (?, ?, ?, ?, ?)", row
        )
        return int(added.lastrowid or 0)

    def _find(self, scope: str, metric: Metric) -> int | None:
        row = self._database.execute(
            "SELECT id FROM metrics WHERE scope = ? AND namespace = ? AND name = ? AND dimensions = ?",
            (scope, metric.namespace, metric.name, json.dumps(metric.dimensions)),
        ).fetchone()
        return None if row is None else int(row[0])


def _samples(count: float, total: float, low: float, high: float, seen: bytes | None) -> Samples:
    return Samples(count, total, low, high, unpack(seen))


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text))
