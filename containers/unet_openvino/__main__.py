"""Entry point of the unet_openvino image: `python -m containers.unet_openvino serve`."""

import os
import sys
import time

import numpy as np
from starlette.types import ASGIApp

from containers.serving.app import ServingOptions, create_app, log_ready
from containers.serving.contract import WORKERS_VARIABLE, ContainerPaths
from containers.serving.cpu import available_cores
from containers.serving.errors import StartupError
from containers.serving.manifest import check_engine, load_manifest
from containers.serving.server import main
from containers.unet_openvino.engine import ENGINE_NAME, load, version
from containers.unet_openvino.handler import CONTENT_TYPES, make_handler
from containers.unet_openvino.signature import CHANNELS, IMAGE_SIDE, WORKLOAD

_QUEUE_CAPACITY = 32
"""A body has up to 6 MiB, so that what waits takes less than 200 MiB."""


def _workers(cores: int) -> int:
    """Images computed at the same time, each on cores / workers threads."""
    given = os.environ.get(WORKERS_VARIABLE, "1")
    if not given.isdecimal() or not 1 <= int(given) <= cores:
        raise StartupError(f"{WORKERS_VARIABLE} is {given!r}: it must be a number from 1 to {cores}, the cores here")
    return int(given)


def _create() -> ASGIApp:
    started = time.perf_counter()
    model_dir = ContainerPaths.from_environment().model
    manifest = load_manifest(model_dir, WORKLOAD)
    check_engine(manifest, ENGINE_NAME, version())
    cores = available_cores()
    workers = _workers(cores)
    model = load(model_dir, manifest.precision, cores, workers)
    # The first inference allocates what all others use.
    model.segment(np.zeros((1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS), np.float32))
    log_ready(
        f"{ENGINE_NAME} {manifest.engine.version} {manifest.precision}, {cores} threads, {workers} workers,", started
    )
    options = ServingOptions(workers=workers, queue_capacity=_QUEUE_CAPACITY, content_types=CONTENT_TYPES)
    return create_app(make_handler(model, manifest.precision), options)


if __name__ == "__main__":
    sys.exit(main(_create, sys.argv[1:]))
