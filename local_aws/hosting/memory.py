"""Memory usage of a container, whose limit no cgroup enforces here."""

from pathlib import Path

_PROC = Path("/proc")


def used_bytes(pid: int, limit: int) -> int:
    """Return the memory of a process and its descendants; 0 if the system reports none (not Linux).

    Near the limit and above, shared pages count once, as in a cgroup. Below it, counting them per process is cheaper.
    """
    family = _family(pid)
    resident = sum(_resident(each) for each in family)
    return resident if resident <= limit or len(family) == 1 else sum(_proportional(each) for each in family)


def _family(pid: int) -> list[int]:
    family, waiting = [], [pid]
    while waiting:
        family.append(waiting.pop())
        for task in (_PROC / str(family[-1]) / "task").glob("*/children"):
            waiting += [int(child) for child in _read(task).split()]
    return family


def _resident(pid: int) -> int:
    return _kilobytes(_read(_PROC / str(pid) / "status"), "VmRSS:")


def _proportional(pid: int) -> int:
    return _kilobytes(_read(_PROC / str(pid) / "smaps_rollup"), "Pss:")


def _kilobytes(text: str, name: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name))


def _read(path: Path) -> str:
    """Return a file of /proc, or an empty text if its process is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
