"""Result by the number of models: latencies that should stay flat, memory, and requests per core-second."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import recorded
from benchmarks.machine import Machine
from benchmarks.recorded import Figure, Sheet, at_least, at_most

_COLUMNS = ("models", "load ms", "ask ms", "list a page ms", "unload ms", "memory MB")
_RATIO_COLUMNS = ("figure", "value", "target", "verdict")
_FLAT = 1.5
"""Largest ratio of latencies, ten thousand models to 51, that counts as flat on a machine that others use."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Measurements by HTTP with `models` models loaded; times are medians in milliseconds.

    resident_bytes: memory of the server.
    """

    models: int
    resident_bytes: int
    load_ms: float
    ask_ms: float
    list_ms: float
    unload_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run on one machine.

    date: ISO 8601.
    empty_bytes: memory without any model.
    """

    date: str
    machine: Machine
    empty_bytes: int
    counted: tuple[Counted, ...]
    requests_per_core_second: float

    @property
    def lines(self) -> tuple[Figure, ...]:
        """Every figure with a target."""
        few, many, most = self.counted
        lines = [
            at_most("load a model from disk, median, ms", few.load_ms, 5),
            at_most("one row, warm, by HTTP, P50, ms", few.ask_ms, 0.3),
            at_least("requests for a second of the server's core", self.requests_per_core_second, 3000),
            at_most(f"memory with {few.models} models, MB", few.resident_bytes / 1e6, 80),
            at_most(f"memory with {many.models:,} models, MB", many.resident_bytes / 1e6, 150),
        ]
        for name in ("load_ms", "ask_ms", "list_ms", "unload_ms"):
            ratio = getattr(most, name) / getattr(few, name)
            lines.append(at_most(f"{name.removesuffix('_ms')}: {most.models:,} models over {few.models}", ratio, _FLAT))
        return tuple(lines)

    @property
    def met(self) -> bool:
        """Whether every target is met."""
        return all(line.met for line in self.lines)

    def summary(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "label": "local",
            "date": self.date,
            "machine": asdict(self.machine),
            "empty_bytes": self.empty_bytes,
            "counted": [asdict(each) for each in self.counted],
            "figures": [asdict(line) for line in self.lines],
            "met": self.met,
        }

    def title(self) -> str:
        """Say what is measured, and where."""
        return "tabular by the number of models, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out; one or two sentences each."""
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs, ratios less so.",
            "The container as its image starts it, one kept-alive connection, medians of 300 operations on models "
            "chosen at random (51 of each at the first count when loading and unloading). The archives are the 51 "
            "states', each loaded again under other names; the kernel has them in its cache.",
            f"Memory: resident, {self.empty_bytes / 1e6:.0f} MB without any model. Requests for a second of a core: 16 "
            "connections of a client that costs little, over the processor time that the server took meanwhile.",
        )


def show(result: Result, console: Console) -> None:
    """Print the tables and their notes."""
    recorded.show(result, _sheets(result), console)


def record(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write the result as JSON and as Markdown tables; a later run replaces both."""
    return recorded.record(result, _sheets(result), folder, "scale")


def _sheets(result: Result) -> list[Sheet]:
    rows = [
        (
            f"{each.models:,}",
            f"{each.load_ms:.2f}",
            f"{each.ask_ms:.3f}",
            f"{each.list_ms:.3f}",
            f"{each.unload_ms:.3f}",
            f"{each.resident_bytes / 1e6:.0f}",
        )
        for each in result.counted
    ]
    return [Sheet(_COLUMNS, _COLUMNS, rows), Sheet(_RATIO_COLUMNS, ("value",), [line.cells() for line in result.lines])]
