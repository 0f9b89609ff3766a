"""MiniStack with this project's extensions and its authentication."""

import logging
import os
from pathlib import Path

from local_aws.account import STATE_VARIABLE
from local_aws.authentication.credentials import CredentialStore
from local_aws.authentication.errors import Protocol
from local_aws.authentication.middleware import Authentication
from local_aws.emulator import (
    alarms,
    anomalies,
    budgets,
    cloudwatch,
    codebuild,
    functions,
    housekeeping,
    logs,
    network,
    recovery,
    sagemaker,
    scaling,
    sessions,
    snapshots,
    storage,
    taken_names,
    tasks,
    unsupported,
)
from local_aws.emulator.allocator import return_memory
from local_aws.emulator.ministack import application
from local_aws.emulator.validation import Validation

_EXTENSIONS = (
    sessions,
    sagemaker,
    scaling,
    alarms,
    cloudwatch,
    logs,
    anomalies,
    codebuild,
    functions,
    storage,
    budgets,
    network,
    tasks,
    unsupported,
    taken_names,
    housekeeping,
    recovery,
)


def serve() -> None:
    """Serve the emulator until the process is stopped."""
    return_memory()
    for extension in _EXTENSIONS:
        extension.register()
    # Both log every request or every second, and drown out the emulator's own messages.
    for name in ("httpx", "persistence"):
        logging.getLogger(name).setLevel(logging.WARNING)
    snapshots.start()
    store = CredentialStore(Path(os.environ[STATE_VARIABLE]))
    address = f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"
    application.serve(lambda app: Authentication(Validation(app), store, address, Protocol.S3))
