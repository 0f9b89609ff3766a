"""Result of a benchmark: figures with targets, tables and notes, shown and recorded as Markdown and JSON."""

import datetime
import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine


class Judged(Protocol):
    """A figure that may have a target."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: its columns, those to align right, and its rows, whose last cell may be a verdict.

    title: heading of a table other than the first, whose heading is the result's title; may be empty.
    """

    columns: Sequence[str]
    right: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


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


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """One run on one machine; a benchmark adds its measurements as fields, and says how to show them.

    date: ISO 8601, in UTC.
    width: columns of the terminal that the tables need.
    label: where it ran, for the JSON.
    """

    date: str = field(default_factory=_today)
    machine: Machine

    width: ClassVar[int] = 140
    label: ClassVar[str] = "local"

    @property
    def stem(self) -> str:
        """Name of the recorded files, without suffix."""
        return "local"

    @property
    @abstractmethod
    def title(self) -> str:
        """What is compared, and where."""

    @property
    @abstractmethod
    def figures(self) -> Sequence[Judged]:
        """Every figure, with and without a target."""

    @abstractmethod
    def sheets(self) -> Sequence[Sheet]:
        """Return the tables."""

    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out; a few sentences each."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return the JSON values besides those of every result."""

    @property
    def met(self) -> bool:
        """Whether every target is met."""
        return all(figure.met is not False for figure in self.figures)

    def summary(self) -> dict[str, Any]:
        """Return all JSON values."""
        common = {"label": self.label, "date": self.date, "machine": asdict(self.machine)}
        return {**common, **self.details(), "met": self.met}

    def show(self, console: Console) -> None:
        """Print the tables and the notes."""
        for number, sheet in enumerate(self.sheets()):
            table = Table(title=sheet.title if number else self.title)
            for name in sheet.columns:
                table.add_column(name, justify="right" if name in sheet.right else "left")
            for cells in sheet.rows:
                style = {"met": "green", "missed": "red"}.get(cells[-1])
                table.add_row(*cells[:-1], f"[{style}]{cells[-1]}[/]" if style else cells[-1])
            console.print(table)
        for note in self.notes():
            console.print(note, highlight=False, markup=False)

    def record(self, folder: Path) -> tuple[Path, Path]:
        """Write the result as JSON and Markdown; a later run with the same stem replaces both."""
        folder.mkdir(parents=True, exist_ok=True)
        data, text = folder / f"{self.stem}.json", folder / f"{self.stem}.md"
        data.write_text(json.dumps(self.summary(), indent=2) + "\n")
        lines = [f"# {self.title}", "", f"Measured on {self.date}.", ""]
        for sheet in self.sheets():
            lines += [f"## {sheet.title}", ""] if sheet.title else []
            body = (sheet.columns, ["---"] * len(sheet.columns), *sheet.rows)
            lines += [*("| " + " | ".join(cells) + " |" for cells in body), ""]
        text.write_text("\n".join([*lines, *(f"- {note}" for note in self.notes()), ""]))
        return data, text


def figure_sheet(figures: Iterable[Figure]) -> Sheet:
    """Return the table of figures."""
    rows = [(each.figure, digits(each.value), each.target, verdict(each.met)) for each in figures]
    return Sheet(("figure", "value", "target", "verdict"), ("value",), rows)


def at_most(figure: str, value: float, limit: float) -> Figure:
    """Return a figure with an upper limit."""
    return Figure(figure, value, f"at most {limit:g}", value <= limit)


def at_least(figure: str, value: float, limit: float) -> Figure:
    """Return a figure with a lower limit."""
    return Figure(figure, value, f"at least {limit:g}", value >= limit)


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile in milliseconds (statistics.quantiles, inclusive method)."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def verdict(met: bool | None) -> str:
    """Return the last cell of a row with a target; empty without one."""
    return {True: "met", False: "missed", None: ""}[met]


def digits(value: float) -> str:
    """Format to three significant digits, keeping all digits before the decimal point; two below a thousandth."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
