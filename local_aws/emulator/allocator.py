"""Configure the C library's allocator to return the memory of large request bodies to the system."""

import ctypes
import sys

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of mallopt(3). Without a fixed value, glibc raises it to 32 MiB after the first large body."""
_BYTES = 128 * 1024
"""glibc's initial value, in bytes."""


def return_memory() -> None:
    """Serve large blocks from mappings of their own, which end with them; a no-op without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BYTES)
