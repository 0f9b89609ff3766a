"""Shared parts of the benchmarks' command lines: signals, errors, exit codes and the final output."""

import contextlib
import datetime
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from benchmarks.errors import BenchmarkError

MISSED, NOT_MEASURED, INTERRUPTED = 1, 2, 130
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
"""Columns of a progress bar whose total is a number of steps."""


class Judged(Protocol):
    """A result with targets."""

    @property
    def met(self) -> bool:
        """Whether every target is met."""


_Result = TypeVar("_Result", bound=Judged)


@contextlib.contextmanager
def measuring(
    *errors: type[Exception], interrupted: str = "everything is stopped, nothing is recorded"
) -> Iterator[None]:
    """Exit with 2 and one line for a BenchmarkError, an OSError or one of `errors`, and with 130 after a signal.

    SIGTERM and SIGHUP interrupt like Ctrl-C, so everything that was started is stopped.
    interrupted: message after a signal.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    caught: tuple[type[Exception], ...] = (BenchmarkError, OSError, *errors)
    try:
        yield
    except caught as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(NOT_MEASURED) from None
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def conclude(
    result: _Result,
    show: Callable[[_Result, Console], None],
    written: Sequence[Path],
    *,
    width: int = 140,
) -> None:
    """Show a result and the files it is recorded in; exit with 1 if a target is missed."""
    console = Console(width=width)
    show(result, console)
    names = " and ".join(path.name for path in written)
    console.print(f"{'every target is met' if result.met else 'a target is missed'}; recorded in {names}")
    if not result.met:
        raise typer.Exit(MISSED)


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


def today() -> str:
    """Return today's date in UTC, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
