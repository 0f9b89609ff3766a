"""`python -m benchmarks.tabular`: compare the container with Multi Model Server and record the result."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.progress import Progress

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar
from benchmarks.machine import Machine
from benchmarks.memory import TreeMemory
from benchmarks.tabular.client import MultiModelClient, connected
from benchmarks.tabular.measure import WARM_UP, Agreement, compare, invoke_in_turns, load_all, turns
from benchmarks.tabular.models import Models, build_models
from benchmarks.tabular.programs import Environments, Packages, container, java_version, multi_model_server
from benchmarks.tabular.report import Measured, TabularResult
from model_build.tabular.schema import STATES


def main(
    cache: CacheOption,
    models: Annotated[int, typer.Option(min=10, max=len(STATES), help="models to load into both servers")] = 51,
    requests: Annotated[int, typer.Option(min=1000, help="measured requests to each server, after a warm-up")] = 10_000,
    packages: Annotated[
        Packages,
        typer.Option(
            help="what XGBoost finds in Multi Model Server's workers: NumPy and SciPy, or pandas and scikit-learn too, "
            "as in SageMaker's built-in image"
        ),
    ] = "lean",
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Compare tabular's container with Multi Model Server on this machine: load time, latency, memory, responses.

    Exits with 1 when a target is missed or responses differ, and with 2 when nothing could be measured.
    """
    with measuring(psutil.Error):
        result = _run(models, requests, packages, cache)
    conclude(result, result.record(results))


def _run(count: int, requests: int, packages: Packages, cache: Path) -> TabularResult:
    java = java_version()
    machine = Machine.read()
    environments = Environments.make(cache, packages)
    with (
        progress_bar() as progress,
        tempfile.TemporaryDirectory(prefix="tabular-") as name,
    ):
        folder = Path(name)
        with _step(progress, "build the models", 1) as done:
            models = build_models(count, folder)
            done()
        with (
            connected(container(environments.container, folder / "container")) as ours,
            connected(multi_model_server(environments.mms, folder / "mms")) as theirs,
        ):
            (our_side, their_side), agreement = _measure((ours, theirs), models, requests, progress)
    return TabularResult(
        machine=machine,
        java=java,
        packages=packages,
        models=count,
        requests=len(our_side.invocations.seconds),
        container=our_side,
        mms=their_side,
        agreement=agreement,
    )


def _measure(
    clients: tuple[MultiModelClient, MultiModelClient], models: Models, requests: int, progress: Progress
) -> tuple[list[Measured], Agreement]:
    def memory(description: str) -> list[TreeMemory]:
        with _step(progress, description, len(clients)) as done:
            readings = []
            for client in clients:
                readings.append(client.server.memory())
                done()
        return readings

    idle = memory("memory without models")
    with _step(progress, "load the models", len(clients) * len(models.models)) as done:
        loads = load_all(clients, models, done)
    with _step(progress, "compare the answers", len(models.models)) as done:
        agreement = compare(clients, models, done)
    with _step(progress, "warm up", turns(WARM_UP)) as done:
        invoke_in_turns(clients, models, WARM_UP, done)
    with _step(progress, "measure latency", turns(requests)) as done:
        invocations = invoke_in_turns(clients, models, requests, done)
    loaded = memory("memory with all models")
    return [Measured(*each) for each in zip(loads, invocations, idle, loaded, strict=True)], agreement


@contextlib.contextmanager
def _step(progress: Progress, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar and yield the function that advances it."""
    task = progress.add_task(description, total=total)
    progress.refresh()
    yield lambda: progress.update(task, advance=1, refresh=True)


if __name__ == "__main__":
    typer.run(main)
