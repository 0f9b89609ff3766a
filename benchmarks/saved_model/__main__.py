"""`python -m benchmarks.saved_model`: tune TensorFlow, compare it with OpenVINO INT8, and record the result."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, say
from benchmarks.machine import Machine
from benchmarks.saved_model.measure import measure
from benchmarks.saved_model.programs import Environments, build
from benchmarks.saved_model.report import SavedModelResult
from containers.serving.errors import StartupError
from load_tests.tuning.search import TrialFailedError

_HERE = Path(__file__).parent


def main(
    cache: CacheOption,
    rounds: Annotated[int, typer.Option(min=3, help="turns of every server and form")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="one turn")] = 3.0,
    results: ResultsOption = Path(__file__).parent / "results",
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
            comparison = measure(built, environments, Path(folder), rounds=rounds, seconds=seconds, on_step=say)
    result = SavedModelResult(machine=machine, comparison=comparison)
    conclude(result, result.record(results))


if __name__ == "__main__":
    typer.run(main)
