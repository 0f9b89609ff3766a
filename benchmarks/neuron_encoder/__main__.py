"""`python -m benchmarks.neuron_encoder`: compare the server with the published pattern and record the result."""

import tempfile
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar
from benchmarks.machine import Machine
from benchmarks.neuron_encoder.measure import measure
from benchmarks.neuron_encoder.programs import Environments, container, published
from benchmarks.neuron_encoder.report import NeuronResult


def main(
    cache: CacheOption,
    cores: Annotated[int, typer.Option(min=1, max=24, help="virtual NeuronCores")] = 12,
    models: Annotated[int, typer.Option(min=1, max=8, help="models on each core")] = 2,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="requests in flight at any time")] = 128,
    turns: Annotated[int, typer.Option(min=1, help="turns of three seconds for each server")] = 8,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Compare neuron_encoder's server with the published pattern on timed virtual cores: throughput, latency, use.

    Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(psutil.Error):
        result = _run(cores, models, connections, turns, cache)
    conclude(result, result.record(results))


def _run(cores: int, models: int, connections: int, turns: int, cache: Path) -> NeuronResult:
    environments = Environments.make(cache)
    machine = Machine.read()
    with (
        progress_bar() as progress,
        tempfile.TemporaryDirectory(prefix="neuron-encoder-") as name,
        container(environments, cores, models, Path(name) / "ours") as ours,
        published(environments, cores, models, Path(name) / "published") as theirs,
    ):
        task = progress.add_task("measure in turns", total=2 * turns)
        our_side, their_side = measure(
            (ours, theirs),
            connections=connections,
            turns=turns,
            on_turn=lambda: progress.update(task, advance=1, refresh=True),
        )
    return NeuronResult(
        machine=machine,
        cores=cores,
        models=models,
        connections=connections,
        ours=our_side,
        published=their_side,
    )


if __name__ == "__main__":
    typer.run(main)
