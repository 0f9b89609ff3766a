"""The account's metrics and log events, which are on disk beside the emulator's saved state."""

import os
from functools import cache
from pathlib import Path

from local_aws.account import time_scale
from local_aws.emulator.log_store import LogStore
from local_aws.emulator.metric_store import MetricStore


@cache
def metrics() -> MetricStore:
    """Return the store of metrics."""
    return MetricStore(_folder() / "metrics.db", time_scale())


@cache
def logs() -> LogStore:
    """Return the store of log events."""
    return LogStore(_folder() / "logs.db")


def _folder() -> Path:
    return Path(os.environ["STATE_DIR"])
