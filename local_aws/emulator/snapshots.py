"""Saves the emulator's state while it runs: MiniStack itself does so only when it stops cleanly."""

import logging
import threading
import time

import ministack.app as ministack_app

logger = logging.getLogger("snapshots")
PERIOD_SECONDS = 1.0
_saving = threading.Lock()
_SHARE = 0.1
"""Of the time, that saving may take at the most: what CloudWatch keeps grows by the minute."""


def start() -> None:
    """Saves every second, or less often where that takes long, on a thread of its own."""
    threading.Thread(target=_save_forever, daemon=True, name="snapshots").start()


def save() -> None:
    """Saves now; may be called from any thread."""
    with _saving:
        try:
            ministack_app.save_all(ministack_app._build_persistence_save_dict())
        except RuntimeError:
            # A dictionary changed while it was copied: the next snapshot has it whole.
            logger.debug("a snapshot was skipped")


def _save_forever() -> None:
    pause = PERIOD_SECONDS
    while True:
        time.sleep(pause)
        began = time.monotonic()
        save()
        pause = max(PERIOD_SECONDS, (time.monotonic() - began) / _SHARE)
