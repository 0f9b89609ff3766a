"""`python -m benchmarks.tabular.scale`: check that one container does not slow down with 51, 1,000 or 10,000 models."""

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import psutil
import typer

from benchmarks.closed_loop import Target, closed_loop
from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar, say
from benchmarks.machine import Machine
from benchmarks.tabular.client import MultiModelClient, connected
from benchmarks.tabular.models import Model, build_models
from benchmarks.tabular.programs import Environments, container
from benchmarks.tabular.scale_report import Counted, ScaleResult
from benchmarks.wire import post
from model_build.tabular.schema import STATES

COUNTS = (len(STATES), 1000, 10_000)
SAMPLES = 300
"""Samples of each operation at each number of models."""
_PAGE = 100
_CONNECTIONS = 16
_BUSY_SECONDS = 8.0
_Arguments = ParamSpec("_Arguments")


def main(
    cache: CacheOption,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Measure loading, invoking, listing and unloading by the number of models, memory, and requests per core-second.

    Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(psutil.Error), tempfile.TemporaryDirectory(prefix="tabular-") as name:
        result = _run(cache, Path(name))
    conclude(result, result.record(results))


def _run(cache: Path, folder: Path) -> ScaleResult:
    environments = Environments.make(cache, "lean")
    say("building the models")
    models = build_models(len(STATES), folder).models
    machine = Machine.read()
    with (
        progress_bar() as progress,
        connected(container(environments.container, folder / "container")) as client,
    ):
        task = progress.add_task("load models", total=COUNTS[-1])
        empty = client.server.memory().rss_bytes
        busy = _busy(client, models)
        counted, loaded, loads = [], 0, []
        for count in COUNTS:
            for number in range(loaded, count):
                loads.append(_timed(client.load, _name(number), models[number % len(models)].folder))
                progress.update(task, advance=1, refresh=number % 100 == 0)
            loaded = count
            counted.append(_count(client, models, count, loads[-SAMPLES:]))
    return ScaleResult(machine=machine, empty_bytes=empty, counted=tuple(counted), requests_per_core_second=busy)


def _count(client: MultiModelClient, models: tuple[Model, ...], count: int, loads: list[float]) -> Counted:
    """Measure every operation with `count` models loaded, on models chosen anew each time."""
    chosen = random.Random(count)
    asked, unloaded, reloaded = [], [], []
    for _ in range(SAMPLES):
        number = chosen.randrange(count)
        row = models[number % len(models)].rows[0].encode()
        asked.append(_timed(client.invoke, _name(number), row))
    listed = [_timed(client.list_models, _PAGE) for _ in range(SAMPLES)]
    for number in chosen.sample(range(count), min(count, SAMPLES)):
        unloaded.append(_timed(client.unload, _name(number)))
        reloaded.append(_timed(client.load, _name(number), models[number % len(models)].folder))
    return Counted(
        models=count,
        resident_bytes=client.server.memory().rss_bytes,
        load_ms=_median_ms([*loads, *reloaded]),
        ask_ms=_median_ms(asked),
        list_ms=_median_ms(listed),
        unload_ms=_median_ms(unloaded),
    )


def _busy(client: MultiModelClient, models: tuple[Model, ...]) -> float:
    """Return the requests per second of the server's processor time, with many connections and one model."""
    client.load("busy", models[0].folder)
    rows = itertools.islice(itertools.cycle(models[0].rows), 50)
    target = Target(
        "busy", client.server.target.port, tuple(post("/models/busy/invoke", row.encode(), "text/csv") for row in rows)
    )
    closed_loop([target], connections=_CONNECTIONS, seconds=1.0, warm_up=0)
    before = client.server.cpu_seconds()
    answered = closed_loop([target], connections=_CONNECTIONS, seconds=_BUSY_SECONDS, warm_up=0)
    seconds = client.server.cpu_seconds() - before
    client.unload("busy")
    return len(answered["busy"]) / seconds


def _name(number: int) -> str:
    return f"model-{number:05}"


def _timed(work: Callable[_Arguments, object], *arguments: _Arguments.args, **named: _Arguments.kwargs) -> float:
    began = time.perf_counter()
    work(*arguments, **named)
    return time.perf_counter() - began


def _median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


if __name__ == "__main__":
    typer.run(main)
