"""Entry point of the saved_model image: `python -m containers.saved_model serve`."""

import os
import sys
import time
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

from containers.saved_model.engine import ENGINE_NAME, load, version
from containers.saved_model.example import SEGMENTATION, respond
from containers.saved_model.handler import CONTENT_TYPES, make_handler
from containers.saved_model.sharing import SharedCores, Streams
from containers.saved_model.signature import WORKLOAD
from containers.serving.app import ServingOptions, create_app, log_ready
from containers.serving.contract import WORKERS_VARIABLE, ContainerPaths
from containers.serving.cpu import available_cores
from containers.serving.errors import StartupError
from containers.serving.example import check_example
from containers.serving.manifest import Manifest, check_engine, load_manifest
from containers.serving.memory import memory_limit_bytes
from containers.serving.server import main

_QUEUE_CAPACITY = 32
_PENDING_BYTES = 192 * 2**20
"""Bodies of _QUEUE_CAPACITY requests, each of 6 MiB."""
_BODY_SHARE = 16
"""Request bodies may take at most 1/16 of the memory limit, if that is less than _PENDING_BYTES."""
_THREADS_PER_CORE = 2
"""Requests in progress per core: while one is computed, another is decoded or encoded."""


def _workers(cores: int) -> int | None:
    """Return how many images are computed at once, each on cores / workers threads; None if it depends on the load."""
    given = os.environ.get(WORKERS_VARIABLE)
    if given is None:
        return None
    if not given.isdecimal() or not 1 <= int(given) <= cores:
        raise StartupError(f"{WORKERS_VARIABLE} is {given!r}: it must be a number from 1 to {cores}, the core count")
    return int(given)


def _shared(model_dir: Path, manifest: Manifest, cores: int, workers: int | None) -> SharedCores:
    """Load the model for each way to share the cores; every way must reproduce the manifest's example."""
    ways = (workers,) if workers is not None else (1, cores) if cores > 1 else (1,)
    streams = [Streams(load(model_dir, manifest.precision, cores, count), count) for count in ways]
    for each in streams:
        check_example(manifest.example, SEGMENTATION, partial(respond, each.model))
    return SharedCores(*streams)


def _create() -> ASGIApp:
    started = time.perf_counter()
    model_dir = ContainerPaths.from_environment().model
    manifest = load_manifest(model_dir, WORKLOAD)
    check_engine(manifest, ENGINE_NAME, version())
    cores = available_cores()
    workers = _workers(cores)
    model = _shared(model_dir, manifest, cores, workers)
    images = "1 or all" if workers is None else str(workers)
    log_ready(
        f"{ENGINE_NAME} {manifest.engine.version} {manifest.precision}, {cores} threads, {images} images at a time,",
        started,
    )
    options = ServingOptions(
        workers=_THREADS_PER_CORE * cores,
        queue_capacity=_QUEUE_CAPACITY,
        pending_bytes=min(_PENDING_BYTES, memory_limit_bytes() // _BODY_SHARE),
        content_types=CONTENT_TYPES,
    )
    return create_app(make_handler(model, manifest.precision), options)


if __name__ == "__main__":
    sys.exit(main(_create, sys.argv[1:]))
