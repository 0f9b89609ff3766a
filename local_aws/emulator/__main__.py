"""MiniStack with this project's extensions: `python -m local_aws.emulator`."""

import logging
import os
from pathlib import Path

import ministack.app as ministack_app
from ministack.services import cloudformation  # noqa: F401 - importing it fills the tables that extensions add to

from local_aws.account import STATE_VARIABLE
from local_aws.authentication.credentials import CredentialStore
from local_aws.authentication.errors import Protocol
from local_aws.authentication.middleware import Authentication
from local_aws.emulator import (
    alarms,
    anomalies,
    budgets,
    codebuild,
    network,
    recovery,
    sagemaker,
    scaling,
    sessions,
    snapshots,
    storage,
    tasks,
)
from local_aws.emulator import unsupported as absent

if __name__ == "__main__":
    for extension in (
        sessions,
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
    # Both log every request or every second, and drown out the emulator's own messages.
    for name in ("httpx", "persistence"):
        logging.getLogger(name).setLevel(logging.WARNING)
    snapshots.start()
    state = Path(os.environ[STATE_VARIABLE])
    address = f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"
    ministack_app.app = Authentication(ministack_app.app, CredentialStore(state), address, Protocol.S3)
    ministack_app.main()
