"""`python -m benchmarks.load_tests`: checks the load generator against a known server and records the result."""

import datetime
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.errors import BenchmarkError
from benchmarks.load_tests import measure
from benchmarks.load_tests.report import Result, record, show
from benchmarks.machine import Machine

_MISSED, _NOT_MEASURED, _INTERRUPTED = 1, 2, 130
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def main(
    stall_seconds: Annotated[float, typer.Option(min=10, help="seconds of each loop on the server that stalls")] = 60.0,
    seconds: Annotated[float, typer.Option(min=2, help="seconds of every other run")] = 10.0,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = Path(__file__).parent / "results",
) -> None:
    """Measures a stall in both loops, rates that are sent, and what each client can send at the most.

    Exits with 1 when something is not as expected, and with 2 when nothing could be measured.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    try:
        result = _run(stall_seconds, seconds)
    except (BenchmarkError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: everything is stopped, nothing is recorded", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    console = Console(width=140)
    show(result, console)
    written = " and ".join(path.name for path in record(result, results))
    console.print(f"{'all is as expected' if result.met else 'something is not as expected'}; recorded in {written}")
    if not result.met:
        raise typer.Exit(_MISSED)


def _run(stall_seconds: float, seconds: float) -> Result:
    machine = Machine.read()
    # A thread that redraws the bar would take time from the requests that are measured.
    with (
        Progress(*_COLUMNS, console=Console(stderr=True), auto_refresh=False) as progress,
        tempfile.TemporaryDirectory(prefix="load-tests-") as name,
    ):
        folder = Path(name)
        task = progress.add_task("load the stub", total=2 + len(measure.RATES) + 1 + len(measure.CLIENTS))

        def done() -> None:
            progress.update(task, advance=1, refresh=True)

        closed, opened = measure.stalls(folder, stall_seconds, done)
        *rates, beyond = measure.rates(folder, seconds, done)
        clients = measure.clients(folder, seconds, done)
    return Result(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine,
        closed=closed,
        opened=opened,
        rates=tuple(rates),
        beyond=beyond,
        clients=clients,
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(_NOT_MEASURED)


if __name__ == "__main__":
    typer.run(main)
