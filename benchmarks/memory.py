"""Memory of a server with all its processes."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_READINGS = 5
_SECONDS_BETWEEN = 0.3


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Number of processes of a tree, a process and its descendants, and the sums of their RSS and PSS."""

    processes: int
    rss_bytes: int
    pss_bytes: int

    @property
    def footprint_bytes(self) -> int:
        """Memory that the tree would take on its own machine, with every page counted once.

        For several processes, which share pages, this is the PSS. For a single one it is the RSS, because its PSS
        excludes part of the pages, such as the interpreter's, that it shares with programs outside the tree.
        """
        return self.rss_bytes if self.processes == 1 else self.pss_bytes


def tree_memory(pid: int) -> TreeMemory:
    """Return the smallest of several readings, so a short-lived process does not count.

    Raises OSError if the kernel has no smaps_rollup.
    """
    readings = [_read(pid)]
    while len(readings) < _READINGS:
        time.sleep(_SECONDS_BETWEEN)
        readings.append(_read(pid))
    return min(readings, key=lambda reading: reading.footprint_bytes)


def _read(pid: int) -> TreeMemory:
    root = psutil.Process(pid)
    rollups = [_rollup(pid)]
    for child in root.children(recursive=True):
        try:
            rollups.append(_rollup(child.pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return TreeMemory(len(rollups), sum(rss for rss, _ in rollups), sum(pss for _, pss in rollups))


def _rollup(pid: int) -> tuple[int, int]:
    fields = {
        name: int(value.split()[0]) * 1024
        for name, _, value in (
            line.partition(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        )
    }
    return fields["Rss"], fields["Pss"]
