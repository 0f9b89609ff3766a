"""`python -m benchmarks.neuron_encoder`: compare the server with the published pattern and record the result."""

import tempfile
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.command import COLUMNS, conclude, measuring, today
from benchmarks.machine import Machine
from benchmarks.neuron_encoder.measure import measure
from benchmarks.neuron_encoder.report import Result, record, show
from benchmarks.neuron_encoder.servers import Environments, container, published
from local_aws.account import default_cache


def main(
    cache: Annotated[
        Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps Python environments")
    ],
    cores: Annotated[int, typer.Option(min=1, max=24, help="virtual NeuronCores")] = 12,
    models: Annotated[int, typer.Option(min=1, max=8, help="models on each core")] = 2,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="requests in flight at any time")] = 128,
    turns: Annotated[int, typer.Option(min=1, help="turns of three seconds for each server")] = 8,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = Path(__file__).parent / "results",
) -> None:
    """Compare neuron_encoder's server with the published pattern on timed virtual cores: throughput, latency, use.

    Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(psutil.Error):
        result = _run(cores, models, connections, turns, cache)
    conclude(result, show, record(result, results), width=120)


def _run(cores: int, models: int, connections: int, turns: int, cache: Path) -> Result:
    environments = Environments.make(cache)
    machine = Machine.read()
    # A thread that redraws the bar would take time from the requests that are measured.
    with (
        Progress(*COLUMNS, console=Console(stderr=True), auto_refresh=False) as progress,
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
    return Result(
        date=today(),
        machine=machine,
        cores=cores,
        models=models,
        connections=connections,
        ours=our_side,
        published=their_side,
    )


if __name__ == "__main__":
    typer.run(main)
