"""Resources whose creation failed."""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from local_aws.emulator.hosting import HostingError

Result = TypeVar("Result")


def deleted_unless_created(wait: Callable[[], Result], delete: Callable[[], None]) -> Result:
    """Return what `wait` returns; delete a resource whose creation failed, as a rollback does, and raise.

    MiniStack forgets a resource whose creation raises, and the next deployment would find its name taken.
    """
    try:
        return wait()
    except HostingError:
        with contextlib.suppress(HostingError):
            delete()
        raise
