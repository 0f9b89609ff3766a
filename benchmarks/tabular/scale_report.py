"""Result by the number of models: latencies that should stay flat, memory, and requests per core-second."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.recorded import Figure, Result, Sheet, at_least, at_most, figure_sheet

_COLUMNS = ("models", "load ms", "ask ms", "list a page ms", "unload ms", "memory MB")
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


@dataclass(frozen=True, kw_only=True)
class ScaleResult(Result):
    """One run on one machine.

    empty_bytes: memory without any model.
    """

    stem = "scale"
    title = "tabular by the number of models, local"
    width = 120

    empty_bytes: int
    counted: tuple[Counted, ...]
    requests_per_core_second: float

    @property
    def figures(self) -> tuple[Figure, ...]:
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

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "empty_bytes": self.empty_bytes,
            "counted": [asdict(each) for each in self.counted],
            "figures": [asdict(line) for line in self.figures],
        }

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs, ratios less so.",
            "The container as its image starts it, one kept-alive connection, medians of 300 operations on models "
            "chosen at random (51 of each at the first count when loading and unloading). The archives are the 51 "
            "states', each loaded again under other names; the kernel has them in its cache.",
            f"Memory: resident, {self.empty_bytes / 1e6:.0f} MB without any model. Requests for a second of a core: 16 "
            "connections of a client that costs little, over the processor time that the server took meanwhile.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                f"{each.models:,}",
                f"{each.load_ms:.2f}",
                f"{each.ask_ms:.3f}",
                f"{each.list_ms:.3f}",
                f"{each.unload_ms:.3f}",
                f"{each.resident_bytes / 1e6:.0f}",
            )
            for each in self.counted
        ]
        return [
            Sheet(_COLUMNS, _COLUMNS, rows),
            figure_sheet(self.figures),
        ]
