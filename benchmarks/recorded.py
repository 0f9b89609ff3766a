"""Show and record a result: tables with verdicts and notes, as Markdown and JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table


class Recorded(Protocol):
    """The result of a run."""

    @property
    def date(self) -> str:
        """Date in ISO 8601."""

    def title(self) -> str:
        """Say what is compared, and where."""

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""

    def summary(self) -> dict[str, Any]:
        """Return JSON values."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: its columns, those to align right, and its rows, whose last cell may be a verdict."""

    columns: Sequence[str]
    right: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio; `at_least` is its target, or None."""

    figure: str
    value: float
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.at_least is None else self.value >= self.at_least


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its target in words, and whether it is met; None without a target."""

    figure: str
    value: float
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return its row in a table of figures."""
        return self.figure, digits(self.value), self.target, verdict(self.met)


def at_most(figure: str, value: float, limit: float) -> Figure:
    """Return a figure with an upper limit."""
    return Figure(figure, value, f"at most {limit:g}", value <= limit)


def at_least(figure: str, value: float, limit: float) -> Figure:
    """Return a figure with a lower limit."""
    return Figure(figure, value, f"at least {limit:g}", value >= limit)


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile in milliseconds (statistics.quantiles, inclusive method)."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def show(result: Recorded, sheets: Sequence[Sheet], console: Console) -> None:
    """Print the tables and the notes."""
    for number, sheet in enumerate(sheets):
        table = Table(title=None if number else result.title())
        for name in sheet.columns:
            table.add_column(name, justify="right" if name in sheet.right else "left")
        for cells in sheet.rows:
            style = {"met": "green", "missed": "red"}.get(cells[-1])
            table.add_row(*cells[:-1], f"[{style}]{cells[-1]}[/]" if style else cells[-1])
        console.print(table)
    for note in result.notes():
        console.print(note, highlight=False, markup=False)


def record(result: Recorded, sheets: Sequence[Sheet], folder: Path, stem: str) -> tuple[Path, Path]:
    """Write the result as JSON and Markdown; a later run with the same stem replaces both."""
    folder.mkdir(parents=True, exist_ok=True)
    data, text = folder / f"{stem}.json", folder / f"{stem}.md"
    data.write_text(json.dumps(result.summary(), indent=2) + "\n")
    lines = [f"# {result.title()}", "", f"Measured on {result.date}.", ""]
    for sheet in sheets:
        body = (sheet.columns, ["---"] * len(sheet.columns), *sheet.rows)
        lines += [*("| " + " | ".join(cells) + " |" for cells in body), ""]
    text.write_text("\n".join([*lines, *(f"- {note}" for note in result.notes()), ""]))
    return data, text


def verdict(met: bool | None) -> str:
    """Return the last cell of a row with a target; empty without one."""
    return {True: "met", False: "missed", None: ""}[met]


def digits(value: float) -> str:
    """Format to three significant digits, keeping all digits before the decimal point."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
