"""MiniStack with this project's extension: `python -m local_aws.emulator`."""

import logging

import ministack.app as ministack_app
from ministack.services import cloudformation  # noqa: F401  (its import fills the tables that the extension adds to)

from local_aws.emulator import (
    absent,
    alarms,
    anomalies,
    budgets,
    codebuild,
    network,
    recovery,
    sagemaker,
    scaling,
    snapshots,
    storage,
    tasks,
)

if __name__ == "__main__":
    for extension in (
        sagemaker,
        scaling,
        alarms,
        anomalies,
        codebuild,
        storage,
        budgets,
        network,
        tasks,
        absent,
        recovery,
    ):
        extension.register()
    # Both log every request or every second, and drown what the emulator has to say.
    for name in ("httpx", "persistence"):
        logging.getLogger(name).setLevel(logging.WARNING)
    snapshots.start()
    ministack_app.main()
