"""Entry point of the tabular image: `python -m containers.tabular serve`."""

import os
import sys
import time

from starlette.types import ASGIApp

from containers.serving.app import JSON, ServingOptions, log_ready
from containers.serving.cpu import available_cores
from containers.serving.errors import StartupError
from containers.serving.memory import memory_limit_bytes
from containers.serving.multi_model import budget_in, create_multi_model_app
from containers.serving.server import main
from containers.tabular.handler import CSV, load_model

RESERVATION_VARIABLE = "MODEL_MEMORY_RESERVATION_BYTES"
"""The least that a model counts against the memory limit; 0 counts what each takes."""
_INLINE_BYTES = 4096
"""About 40 rows of CSV, which take less time than the way to a thread and back."""
_LOADING_FACTOR = 8.0
"""Memory that loading a model takes at its peak, in sizes of its file.

A node has 34 bytes in XGBoost's UBJSON and takes 100 in memory, with the file and the arrays between beside it. Files
that would take more are refused, since what they hold is counted by their size.
"""
_BODY_SHARE = 20
"""The part of the memory limit that bodies may take, half of what models leave free: in 512 MiB, four of 6 MiB."""


def _create() -> ASGIApp:
    started = time.perf_counter()
    reservation = os.environ.get(RESERVATION_VARIABLE, "0")
    if not reservation.isdecimal():
        raise StartupError(f"{RESERVATION_VARIABLE} is {reservation!r}: it must be a number of bytes")
    limit = memory_limit_bytes()
    budget = budget_in(limit, int(reservation), _LOADING_FACTOR)
    options = ServingOptions(
        workers=available_cores(),
        queue_capacity=1024,
        pending_bytes=limit // _BODY_SHARE,
        content_types=(CSV, JSON),
        inline_bytes=_INLINE_BYTES,
    )
    app = create_multi_model_app(load_model, budget, options)
    log_ready(f"multi-model server, {budget.model_bytes / 2**20:.0f} MiB for models,", started)
    return app


if __name__ == "__main__":
    sys.exit(main(_create, sys.argv[1:]))
