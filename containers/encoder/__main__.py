"""Entry point of the encoder image: `python -m containers.encoder serve`."""

import logging
import os
import sys
import time

from starlette.types import ASGIApp

from containers.encoder.engines import KnowsItsSizes, installed_version, load_engine, load_lanes
from containers.encoder.handler import make_handler
from containers.encoder.model_files import TOKENIZER_FILE, window_limits
from containers.encoder.question_answering import QuestionAnswering
from containers.serving.app import ServingOptions, create_app, log_ready
from containers.serving.contract import ContainerPaths
from containers.serving.cpu import available_cores
from containers.serving.errors import StartupError
from containers.serving.example import check_example
from containers.serving.manifest import check_engine, load_manifest
from containers.serving.messages import one_line
from containers.serving.question_answering.example import QUESTION_ANSWERING
from containers.serving.question_answering.windows import Windower
from containers.serving.server import main

WORKLOAD = "encoder"
_WORKERS = 32
"""Most requests whose windows may share a batch."""
logger = logging.getLogger(WORKLOAD)


def _create() -> ASGIApp:
    started = time.perf_counter()
    model_dir = ContainerPaths.from_environment().model
    manifest = load_manifest(model_dir, WORKLOAD)
    engine_name = manifest.engine.name
    try:
        check_engine(manifest, engine_name, installed_version(engine_name))
    except ImportError as error:
        raise StartupError(
            f"the artifact needs {engine_name} {manifest.engine.version}, which this image does not have"
        ) from error
    except ValueError as error:
        raise StartupError(f"the manifest's engine is not valid: {error}; rebuild the artifact") from error
    threads = available_cores()
    windower = Windower.from_file(model_dir / TOKENIZER_FILE, window_limits(manifest.recipe))
    engine = load_engine(engine_name, model_dir, threads)
    if isinstance(engine, KnowsItsSizes):
        engine.check_fits(windower.words, windower.limits.max_seq_length)
    model = QuestionAnswering(engine, windower, lambda: load_lanes(engine_name, model_dir, threads))
    try:
        model.warm_up()
    except Exception as error:
        raise StartupError(f"the model does not run ({one_line(error)}); rebuild the artifact") from error
    check_example(manifest.example, QUESTION_ANSWERING, lambda item: model.answer([item])[0])
    if cap := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        logger.info("the engine is limited to ONEDNN_MAX_CPU_ISA=%s", cap)
    log_ready(f"{engine_name} {manifest.engine.version} {manifest.precision}, {threads} threads,", started)
    return create_app(make_handler(model, manifest.precision), ServingOptions(workers=_WORKERS))


if __name__ == "__main__":
    sys.exit(main(_create, sys.argv[1:]))
