"""`python -m benchmarks.bert_neuron`: measures the server beside the published pattern and records the result."""

import datetime
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bert_neuron.measure import measure
from benchmarks.bert_neuron.report import Result, record, show
from benchmarks.bert_neuron.servers import Environments, container, published
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from local_aws.account import default_cache

_MISSED, _NOT_MEASURED, _INTERRUPTED = 1, 2, 130
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def main(
    cache: Annotated[
        Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps Python environments")
    ],
    cores: Annotated[int, typer.Option(min=1, max=24, help="virtual NeuronCores")] = 4,
    models: Annotated[int, typer.Option(min=1, max=8, help="models on each core")] = 2,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="requests in flight at any time")] = 128,
    turns: Annotated[int, typer.Option(min=1, help="turns of three seconds for each server")] = 8,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = Path(__file__).parent / "results",
) -> None:
    """Compares bert_neuron's server with the published pattern on timed virtual cores: throughput, latency, use.

    Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    try:
        result = _run(cores, models, connections, turns, cache)
    except (BenchmarkError, OSError, psutil.Error) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: everything is stopped, nothing is recorded", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    console = Console(width=120)
    show(result, console)
    written = " and ".join(path.name for path in record(result, results))
    console.print(f"{'every target is met' if result.met else 'a target is missed'}; recorded in {written}")
    if not result.met:
        raise typer.Exit(_MISSED)


def _run(cores: int, models: int, connections: int, turns: int, cache: Path) -> Result:
    environments = Environments.make(cache)
    machine = Machine.read()
    # A thread that redraws the bar would take time from the requests that are measured.
    with (
        Progress(*_COLUMNS, console=Console(stderr=True), auto_refresh=False) as progress,
        tempfile.TemporaryDirectory(prefix="bert-neuron-") as name,
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
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine,
        cores=cores,
        models=models,
        connections=connections,
        ours=our_side,
        published=their_side,
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(_NOT_MEASURED)


if __name__ == "__main__":
    typer.run(main)
