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
"""Environment variable with the smallest number of bytes counted per model; 0 counts each model's actual size."""
_INLINE_BYTES = 4096
"""Largest body computed on the event loop: about 40 rows of CSV, faster than a switch to a thread and back."""
_LOADING_FACTOR = 8.0
"""Peak memory of loading a model, as a multiple of its file size.

A node has 34 bytes in XGBoost's UBJSON and takes 100 in memory; the file and intermediate arrays come on top. Files
whose contents would take more are refused, since their memory is reserved by file size.
"""
_BODY_SHARE = 20
"""Request bodies may take 1/20 of the memory limit, half of the headroom: in 512 MiB, four bodies of 6 MiB."""


def _create() -> ASGIApp:
    started = time.perf_counter()
    reservation = os.environ.get(RESERVATION_VARIABLE, "0")
    if not reservation.isdecimal():
        raise StartupError(f"{RESERVATION_VARIABLE} is {reservation!r}: it must be a number of bytes, 0 or more")
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
