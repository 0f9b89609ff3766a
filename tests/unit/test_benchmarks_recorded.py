"""What every benchmark's result has in common."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.machine import Machine
from benchmarks.recorded import Figure, Result, Sheet, at_least, at_most, digits, figure_sheet

MACHINE = Machine("a processor", 2, ("avx2",), 2**30, "3.11", 0.5)


@dataclass(frozen=True, kw_only=True)
class Example(Result):
    stem = "example"
    title = "One thing beside another"

    milliseconds: float

    @property
    def figures(self) -> tuple[Figure, ...]:
        return at_most("latency, ms", self.milliseconds, 5), Figure("requests", 1234)

    def sheets(self) -> list[Sheet]:
        return [figure_sheet(self.figures), Sheet(("name",), (), [("a",)], title="More")]

    def notes(self) -> tuple[str, ...]:
        return ("A note.",)

    def details(self) -> dict[str, Any]:
        return {"milliseconds": self.milliseconds}


def example(milliseconds: float) -> Example:
    return Example(date="2026-01-02", machine=MACHINE, milliseconds=milliseconds)


def test_a_result_is_met_unless_a_figure_misses_its_target() -> None:
    assert example(5).met
    assert not example(5.1).met


def test_a_record_has_the_tables_and_notes_and_the_values_of_every_result_around_its_own(tmp_path: Path) -> None:
    data, text = example(6).record(tmp_path / "results")
    assert data.name == "example.json"
    assert list(json.loads(data.read_text())) == ["label", "date", "machine", "milliseconds", "met"]
    assert text.read_text() == (
        "# One thing beside another\n\nMeasured on 2026-01-02.\n\n"
        "| figure | value | target | verdict |\n| --- | --- | --- | --- |\n"
        "| latency, ms | 6 | at most 5 | missed |\n| requests | 1234 |  |  |\n\n"
        "## More\n\n| name |\n| --- |\n| a |\n\n"
        "- A note.\n"
    )


def test_a_shown_result_says_everything_that_is_recorded() -> None:
    shown = io.StringIO()
    example(6).show(Console(file=shown, width=80))
    assert all(text in shown.getvalue() for text in ("One thing beside another", "missed", "More", "A note."))


def test_a_limit_itself_meets_the_target() -> None:
    assert at_least("rate", 2, 2).met and at_most("time", 2, 2).met


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (2.0, "2"), (2.345, "2.35"), (0.0123, "0.0123"), (1.23e-7, "1.2e-07")]
)
def test_three_digits_are_kept_and_all_before_the_point(value: float, text: str) -> None:
    assert digits(value) == text
