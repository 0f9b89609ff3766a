"""What a container uses of its memory limit, which no cgroup enforces here."""

from pathlib import Path

_PROC = Path("/proc")


def used_bytes(pid: int, limit: int) -> int:
    """Memory of a process and those that it started; 0 where this machine tells nothing of it (it is no Linux).

    Pages that several of them share count once, as in a cgroup, where it is of account: near the limit and above.
    """
    family = _family(pid)
    resident = sum(_resident(each) for each in family)
    return resident if resident <= limit or len(family) == 1 else sum(_proportional(each) for each in family)


def _family(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        for task in (_PROC / str(found[-1]) / "task").glob("*/children"):
            waiting += [int(child) for child in _read(task).split()]
    return found


def _resident(pid: int) -> int:
    return _kilobytes(_read(_PROC / str(pid) / "status"), "VmRSS:")


def _proportional(pid: int) -> int:
    return _kilobytes(_read(_PROC / str(pid) / "smaps_rollup"), "Pss:")


def _kilobytes(text: str, name: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name))


def _read(path: Path) -> str:
    """A file of /proc; empty for a process that is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
