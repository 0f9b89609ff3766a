"""One server process: a core group, its models, and the HTTP server in front of them."""

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import uvloop

from containers.neuron_encoder.answering import Answering
from containers.neuron_encoder.app import Gate, create_app
from containers.neuron_encoder.artifact import TOKENIZER_FILE, NeuronArtifact, load_artifact
from containers.neuron_encoder.devices import Device, engine_version, load_device
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.metrics import Metrics
from containers.neuron_encoder.scheduler import Scheduler
from containers.neuron_encoder.settings import Settings
from containers.neuron_encoder.tokenizing import TokenizerThreads
from containers.serving.contract import HOST_VARIABLE, ContainerPaths
from containers.serving.errors import StartupError
from containers.serving.example import check_example
from containers.serving.manifest import Example, Manifest, check_engine, load_manifest
from containers.serving.messages import one_line
from containers.serving.question_answering.answers import AnsweredQuestion, Item
from containers.serving.question_answering.example import QUESTION_ANSWERING
from containers.serving.question_answering.windows import EncoderBatch, Windower, WindowLimits
from containers.serving.server import GRACE_SECONDS, serve

WORKLOAD = "neuron_encoder"
HOST = "0.0.0.0"  # noqa: S104 - SageMaker and the load balancer connect from outside the container
_TIMED_RUNS = 5
"""Timed runs of each traced shape at startup; the shortest counts."""
_COLLECT_EVERY = 20_000
"""Objects created before Python searches for reference cycles. Requests leave none, and the default of 700 costs 5 %
more time."""
logger = logging.getLogger(WORKLOAD)


def check_artifact(model_dir: Path, settings: Settings) -> tuple[Manifest, NeuronArtifact]:
    """Read and check the archive's metadata; raises StartupError if this image or its settings cannot serve it."""
    manifest = load_manifest(model_dir, WORKLOAD)
    artifact = load_artifact(model_dir)
    if (engine := engine_version(settings.device, artifact)) is not None:
        check_engine(manifest, *engine)
    return manifest, artifact


def run(settings: Settings, cores: tuple[int, ...], port: int, threads: int) -> int:
    """Load, warm up and serve until SIGTERM.

    Returns the exit code: 1 with one line on stderr for an artifact that cannot be served.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    started = time.perf_counter()
    try:
        model_dir = ContainerPaths.from_environment().model
        manifest, artifact = check_artifact(model_dir, settings)
        core = CoreGroup(cores)
        devices = [load_device(settings.device, model_dir, artifact, core, threads) for _ in range(settings.models)]
        seconds = _warm_up(artifact, devices)
        windower = Windower.from_file(model_dir / TOKENIZER_FILE, _limits(manifest, artifact))
    except StartupError as error:
        return _refused(error)
    # Loaded objects stay, so the garbage collector need not scan them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
    logger.info(
        "core %s, %d models on %s, port %d, loaded in %.1f s",
        core.name, settings.models, settings.device, port, time.perf_counter() - started,
    )  # fmt: skip
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tokenizer_threads = settings.tokenizer_threads or max(1, threads - 1)
        try:
            runner.run(
                _serve(settings, core, devices, windower, (manifest, artifact), seconds, port, tokenizer_threads)
            )
        except StartupError as error:
            return _refused(error)
    return 0


def _refused(error: StartupError) -> int:
    print(f"cannot serve: {error}", file=sys.stderr, flush=True)
    return 1


def _warm_up(artifact: NeuronArtifact, devices: Sequence[Device]) -> dict[tuple[int, int], float]:
    try:
        return warm_up(artifact, devices)
    except Exception as error:
        raise StartupError(f"the traced model does not run ({one_line(error)}); rebuild the artifact") from error


def warm_up(artifact: NeuronArtifact, devices: Sequence[Device]) -> dict[tuple[int, int], float]:
    """Run every traced shape on every copy, since engines prepare each shape on first use.

    Returns the seconds that each shape takes afterward, by length and batch size.
    """
    seconds: dict[tuple[int, int], float] = {}
    for bucket in artifact.buckets:
        empty = np.zeros((bucket.batch, bucket.length), dtype=np.int64)
        batch = EncoderBatch(empty, np.ones_like(empty), empty)
        for device in devices:
            device.run(batch)
        seconds[bucket.length, bucket.batch] = min(_timed(devices[0], batch) for _ in range(_TIMED_RUNS))
    return seconds


def _timed(device: Device, batch: EncoderBatch) -> float:
    began = time.perf_counter()
    device.run(batch)
    return time.perf_counter() - began


def _limits(manifest: Manifest, artifact: NeuronArtifact) -> WindowLimits:
    recipe = manifest.recipe
    try:
        return WindowLimits(artifact.lengths[-1], recipe["doc_stride"], recipe["max_query_length"])
    except (KeyError, ValueError) as error:
        raise StartupError(
            f"the manifest's recipe does not fit the traced lengths: {error}; rebuild the artifact"
        ) from error


async def _serve(
    settings: Settings,
    core: CoreGroup,
    devices: Sequence[Device],
    windower: Windower,
    artifact: tuple[Manifest, NeuronArtifact],
    seconds: Mapping[tuple[int, int], float],
    port: int,
    tokenizer_threads: int,
) -> None:
    manifest, traced = artifact
    metrics = Metrics(core, settings.models, lambda model: answering.queued(model))
    scheduler = Scheduler(
        traced,
        devices,
        metrics,
        seconds,
        deadline_seconds=settings.batch_deadline_ms / 1000,
        capacity=settings.queue_capacity,
    )
    tokenizer = TokenizerThreads(windower, tokenizer_threads)
    answering = Answering(tokenizer, scheduler, models=settings.models, capacity=settings.queue_capacity)
    gate = Gate()
    app = create_app(answering, core, metrics, manifest.precision, gate)
    try:
        if settings.device != "timed":
            await check_copies(manifest.example, answering)
        await serve(app, os.environ.get(HOST_VARIABLE, HOST), port, before_stop=lambda: drained(gate))
    finally:
        await answering.close()


async def check_copies(example: Example | None, answering: Answering) -> None:
    """Have every copy of the model answer the manifest's example as it answers requests; raises StartupError."""
    loop = asyncio.get_running_loop()

    def answer(model: int, item: Item) -> AnsweredQuestion:
        return asyncio.run_coroutine_threadsafe(answering.answer(model, [item]), loop).result()[0]

    for model in range(answering.models):
        await asyncio.to_thread(check_example, example, QUESTION_ANSWERING, partial(answer, model))


async def drained(gate: Gate, *, seconds: float = GRACE_SECONDS) -> None:
    """Refuse new requests, and return once no request is in flight, or after `seconds`."""
    gate.draining = True
    deadline = time.monotonic() + seconds
    while gate.active and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
