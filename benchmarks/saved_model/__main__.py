"""`python -m benchmarks.saved_model`: tune TensorFlow, compare it with OpenVINO INT8, and record the result."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import conclude, measuring, say, today
from benchmarks.machine import Machine
from benchmarks.saved_model.measure import measure
from benchmarks.saved_model.report import Result, record, show
from benchmarks.saved_model.servers import Environments, build
from containers.serving.errors import StartupError
from load_tests.tuning.search import TrialFailedError
from local_aws.account import default_cache

_HERE = Path(__file__).parent


def main(
    cache: Annotated[
        Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps environments and builds")
    ],
    rounds: Annotated[int, typer.Option(min=3, help="turns of every server and form")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="one turn")] = 3.0,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = _HERE / "results",
) -> None:
    """Compare the best TensorFlow setting with OpenVINO INT8 on this machine: images per second, IoU, overhead.

    Builds the model first, which trains for minutes unless it is cached. Exits with 1 when a target is missed, and with
    2 when nothing could be measured.
    """
    with measuring(TrialFailedError, StartupError):
        say("building")
        built = build(cache)
        environments = Environments.make(cache)
        machine = Machine.read()
        with tempfile.TemporaryDirectory(prefix="saved-model-") as folder:
            figures = measure(built, environments, Path(folder), rounds=rounds, seconds=seconds, on_step=say)
    result = Result(date=today(), machine=machine, figures=figures)
    conclude(result, show, record(result, results))


if __name__ == "__main__":
    typer.run(main)
