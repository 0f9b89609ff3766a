"""What commands print, and how they end."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

NO_RESULT = 2
"""Exit code of a command that could not measure, where 1 says that what it measured is not good enough."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Print one line on stderr and exit with a code."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def console(width: int = 140) -> Console:
    """Return a console for tables: as wide as the terminal, or `width` characters where the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width, markup=False)
