"""Save the emulator's state while it runs; MiniStack itself saves it only when it stops cleanly."""

import logging
import threading
import time

from local_aws.emulator.ministack.application import save_state

logger = logging.getLogger("snapshots")
PERIOD_SECONDS = 1.0
_saving = threading.Lock()
_SHARE = 0.1
"""Largest fraction of time that saving may take, because CloudWatch's data grows by the minute."""


def start() -> None:
    """Save every second on a separate thread, less often if saving is slow."""
    threading.Thread(target=_save_forever, daemon=True, name="snapshots").start()


def save() -> bool:
    """Save now, and return whether the snapshot is complete; safe to call from any thread."""
    with _saving:
        try:
            save_state()
        except RuntimeError:
            # A dictionary changed while it was copied; the next snapshot will be complete.
            logger.debug("a snapshot was skipped")
            return False
    return True


def _save_forever() -> None:
    pause = PERIOD_SECONDS
    while True:
        time.sleep(pause)
        began = time.monotonic()
        save()
        pause = max(PERIOD_SECONDS, (time.monotonic() - began) / _SHARE)
