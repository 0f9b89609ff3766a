"""Shared parts of the benchmarks' command lines: signals, errors, exit codes and the final output."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks.errors import BenchmarkError
from benchmarks.recorded import Result
from local_aws.account import default_cache
from local_aws.environments import EnvironmentSetupError

MISSED, NOT_MEASURED, INTERRUPTED = 1, 2, 130
CacheOption = Annotated[
    Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps environments and builds")
]
ResultsOption = Annotated[
    Path, typer.Option(help="folder of the recorded results", show_default="results/ in the benchmark's folder")
]


@contextlib.contextmanager
def measuring(
    *errors: type[Exception], interrupted: str = "everything is stopped, nothing is recorded"
) -> Iterator[None]:
    """Exit with 2 and one line for an error that prevents a measurement, and with 130 after a signal.

    These errors are BenchmarkError, EnvironmentSetupError, OSError and `errors`. SIGTERM and SIGHUP interrupt like
    Ctrl-C, so everything that was started is stopped.

    interrupted: message after a signal.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    caught: tuple[type[Exception], ...] = (BenchmarkError, EnvironmentSetupError, OSError, *errors)
    try:
        yield
    except caught as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(NOT_MEASURED) from None
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def conclude(result: Result, written: Sequence[Path]) -> None:
    """Show a result and the files it is recorded in; exit with 1 if a target is missed."""
    console = Console(width=result.width)
    result.show(console)
    names = " and ".join(path.name for path in written)
    console.print(f"{'every target is met' if result.met else 'a target is missed'}; recorded in {names}")
    if not result.met:
        raise typer.Exit(MISSED)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on stderr, by default for a number of steps, that is drawn only on `refresh`.

    A thread that redraws it would take time from the requests that are measured.
    """
    default = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*(columns or default), console=Console(stderr=True), auto_refresh=False)


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)
