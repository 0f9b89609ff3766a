"""Saves the emulator's state while it runs: MiniStack itself does so only when it stops cleanly."""

import logging
import threading

import ministack.app as ministack_app

logger = logging.getLogger("snapshots")
PERIOD_SECONDS = 1.0


def start() -> None:
    """Saves every second on a thread of its own, for as long as the process runs."""
    threading.Thread(target=_save_forever, daemon=True, name="snapshots").start()


def _save_forever() -> None:
    while True:
        threading.Event().wait(PERIOD_SECONDS)
        try:
            ministack_app.save_all(ministack_app._build_persistence_save_dict())
        except RuntimeError:
            # A dictionary changed while it was copied: the next second's snapshot has it whole.
            logger.debug("a snapshot was skipped")
