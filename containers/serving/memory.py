"""The memory that this container may use, and the memory that it uses."""

import ctypes
import gc
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from containers.serving.errors import StartupError

LIMIT_VARIABLE = "CONTAINER_MEMORY_LIMIT_BYTES"
"""Memory limit on platforms that limit a container's memory without a cgroup that it can read."""
_CGROUP_FILES = ("memory.max", "memory/memory.limit_in_bytes")


def memory_limit_bytes(cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the smallest of the cgroup's limit, CONTAINER_MEMORY_LIMIT_BYTES and the machine's memory.

    Raises StartupError if the variable is not a number above 0.
    """
    limits = [_total(meminfo)]
    for name in _CGROUP_FILES:
        try:
            limits.append(int((cgroup / name).read_text()))
        except (OSError, ValueError):
            continue
    given = os.environ.get(LIMIT_VARIABLE, "")
    if given:
        if not given.isdecimal() or not int(given):
            raise StartupError(f"{LIMIT_VARIABLE} is {given!r}: it must be a number of bytes above 0")
        limits.append(int(given))
    return min(limits)


def _total(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{meminfo} has no MemTotal")


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Return this process's resident memory."""
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def release_unused_memory() -> None:
    """Collect garbage, and return freed memory to the system.

    glibc keeps freed memory that lies below memory in use: tens of megabytes after a burst of large requests. The call
    may take tens of milliseconds, most of them without the GIL.
    """
    gc.collect()
    return_freed_memory()


@cache
def _malloc_trim_of_libc() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    # Neither musl nor macOS has it.
    except (OSError, AttributeError):
        return None
    return trim


def return_freed_memory() -> None:
    """Return freed memory to the system without a garbage collection; takes milliseconds."""
    if (trim := _malloc_trim_of_libc()) is not None:
        trim(0)
