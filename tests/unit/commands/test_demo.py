"""The demo shows what this processor can run, and says what it leaves out and why."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app


class StartedError(Exception):
    """The demo has chosen, and would start the account."""


@pytest.fixture(autouse=True)
def _stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise StartedError

    monkeypatch.setattr("commands.demo.start", start)


def test_a_workload_that_the_processor_cannot_run_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("commands.demo.instruction_sets", lambda: frozenset({"avx2"}))
    done = CliRunner().invoke(app, ["demo", "--state", str(tmp_path / "state")])
    assert "encoder is left out: INT8 needs a processor with avx512_vnni" in done.output
    assert isinstance(done.exception, StartedError), "the rest is shown"


def test_a_workload_that_was_named_and_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("commands.demo.instruction_sets", lambda: frozenset({"avx2"}))
    done = CliRunner().invoke(app, ["demo", "encoder", "--state", str(tmp_path / "state")])
    assert (done.exit_code, "cannot be built here" in done.output) == (1, True)


def test_nothing_is_left_out_where_the_processor_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("commands.demo.instruction_sets", lambda: frozenset({"avx512_vnni"}))
    assert "left out" not in CliRunner().invoke(app, ["demo", "--state", str(tmp_path / "state")]).output
