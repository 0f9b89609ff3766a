"""`python -m benchmarks.load_tests`: check the load generator against a known server and record the result."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import ResultsOption, conclude, measuring, progress_bar
from benchmarks.load_tests import measure
from benchmarks.load_tests.report import GeneratorResult
from benchmarks.machine import Machine


def main(
    stall_seconds: Annotated[float, typer.Option(min=10, help="seconds of each loop on the server that stalls")] = 60.0,
    seconds: Annotated[float, typer.Option(min=2, help="seconds of every other run")] = 10.0,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Measure a stall in both loops, the rates that are sent, and the most that each client can send.

    Exits with 1 when a figure is not as expected, and with 2 when nothing could be measured.
    """
    with measuring():
        result = _run(stall_seconds, seconds)
    conclude(result, result.record(results))


def _run(stall_seconds: float, seconds: float) -> GeneratorResult:
    machine = Machine.read()
    with (
        progress_bar() as progress,
        tempfile.TemporaryDirectory(prefix="load-tests-") as name,
    ):
        folder = Path(name)
        task = progress.add_task("load the stub", total=2 + len(measure.RATES) + 1 + len(measure.CLIENTS))

        def done() -> None:
            progress.update(task, advance=1, refresh=True)

        closed, opened = measure.stalls(folder, stall_seconds, done)
        *rates, beyond = measure.rates(folder, seconds, done)
        clients = measure.clients(folder, seconds, done)
    return GeneratorResult(
        machine=machine,
        closed=closed,
        opened=opened,
        rates=tuple(rates),
        beyond=beyond,
        clients=clients,
    )


if __name__ == "__main__":
    typer.run(main)
