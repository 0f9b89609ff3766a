"""`python -m benchmarks.encoder.server`: compare the server around the engine with other servers of the same model."""

import random
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks.closed_loop import closed_loop
from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar, say
from benchmarks.encoder.engines import OURS as OUR_ENGINE
from benchmarks.encoder.engines import RIVALS, Models, Rival, Worker, make, running
from benchmarks.encoder.lengths import SQUAD_LENGTHS
from benchmarks.encoder.open_loop import arrivals, poisson
from benchmarks.encoder.programs import FASTAPI, LITSERVE, OURS, Environments, program
from benchmarks.encoder.queueing import first_come_first_served
from benchmarks.encoder.server_report import Load, Measured, ServerResult
from benchmarks.encoder.texts import bodies
from benchmarks.machine import Machine
from benchmarks.servers import Program, Server
from benchmarks.servers import running as running_server

ALONE, BUSY = 1, 32
"""Numbers of connections, each with one request at a time."""
_TURN_SECONDS, _SETTLE_SECONDS = 4.0, 1.0
(_MODERATE, _MODERATE_SECONDS), (_OVERLOAD, _OVERLOAD_SECONDS) = (0.7, 40.0), (3.0, 8.0)
"""Rates as fractions of each server's own maximum, and durations in seconds. Overload is short because servers that
refuse nothing accumulate hundreds of requests in a few seconds."""
_SEED = 0
_LANES_KIND = "vnni_lanes"
_LANES_BATCHES = (1, 2, 4, 8)


def main(
    cache: CacheOption,
    turns: Annotated[int, typer.Option(min=2, help="turns of four seconds for each server, alone and busy")] = 5,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Compare servers of one INT8 model: latency alone, most requests per second, at 70 % of that, and at three times.

    Builds the model first. Exits with 1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(psutil.Error), tempfile.TemporaryDirectory(prefix="encoder-") as name:
        result = _run(cache, turns, Path(name))
    conclude(result, result.record(results))


def _run(cache: Path, turns: int, folder: Path) -> ServerResult:
    say("building BERT-base's shape")
    models = make(cache, folder, ("vnni",))
    environments = Environments.make(cache)
    base = folder / "base"
    base.mkdir()
    (base / "model").symlink_to(models.folders["vnni", "int8"])
    requests = bodies(base / "model" / "tokenizer.json")
    random.Random(_SEED).shuffle(requests)
    machine = Machine.read()
    with ExitStack() as stack, progress_bar() as progress:
        task = progress.add_task("start and warm", total=3 * (turns + 3) + turns)
        servers = []
        for name in (OURS, FASTAPI, LITSERVE):
            chosen = program(name, environments, base / "model", machine.cores, requests, folder)
            servers.append(_warm(stack, chosen))
            progress.update(task, advance=1, refresh=True)
        lone, lanes = _engines(stack, models, machine.cores, folder)
        progress.update(task, description="measure in turns")
        measured = {server.target.name: Measured(server.target.name, server.start_seconds) for server in servers}
        bare: list[float] = []
        best: dict[str, list[float]] = {}
        lane_turns: list[list[float]] = []
        for _ in range(turns):
            for server in servers:
                _turn(server, measured[server.target.name])
                progress.update(task, advance=1, refresh=True)
            bare += lone.run(SQUAD_LENGTHS)
            _bare_rates(lone, lanes, machine.cores, best)
            lane_turns.append(lanes.run(SQUAD_LENGTHS))
            progress.update(task, advance=1, refresh=True)
        progress.update(task, description="at 70 % of its most and at three times")
        for server in servers:
            figures = measured[server.target.name]
            figures.moderate = _open(server, _MODERATE * figures.rate, _MODERATE_SECONDS)
            figures.overload = _open(server, _OVERLOAD * figures.rate, _OVERLOAD_SECONDS)
            figures.resident_bytes = server.memory().rss_bytes
            progress.update(task, advance=2, refresh=True)
    lane_seconds = [statistics.median(turns) for turns in zip(*lane_turns, strict=True)]
    # Use the same order as the requests, which have these lengths.
    random.Random(_SEED).shuffle(lane_seconds)
    due = arrivals(_MODERATE * measured[OURS].rate, _MODERATE_SECONDS, _SEED)
    return ServerResult(
        machine=machine,
        turns=turns,
        measured=tuple(measured.values()),
        bare_seconds=tuple(bare),
        queued_seconds=tuple(first_come_first_served(due, lane_seconds, machine.cores)),
        bare_rates={name: tuple(rates) for name, rates in best.items()},
    )


def _warm(stack: ExitStack, chosen: Program) -> Server:
    """Start a server, warm it up and suspend it."""
    server = stack.enter_context(running_server(chosen))
    for connections in (ALONE, BUSY):
        closed_loop([server.target], connections=connections, seconds=2 * _TURN_SECONDS, warm_up=0)
        _drain(server)
    server.suspend()
    return server


def _engines(stack: ExitStack, models: Models, cores: int, folder: Path) -> tuple[Worker, Worker]:
    """Start the engine on all cores, and one lane of it on each core."""
    ours = next(rival for rival in RIVALS if rival.name == OUR_ENGINE)
    lanes = Rival(name="lanes", kind=_LANES_KIND, precision="int8", build=ours.build, bucket=ours.bucket)
    workers = (
        stack.enter_context(running(ours, models, cores, folder)),
        stack.enter_context(running(lanes, models, cores, folder)),
    )
    for worker in workers:
        worker.run(SQUAD_LENGTHS)
    return workers


def _bare_rates(lone: Worker, lanes: Worker, cores: int, rates: dict[str, list[float]]) -> None:
    """Record the questions per second of the engine without a server, on all cores and with one lane per core.

    Questions of similar lengths are batched together.
    """
    for rows in _LANES_BATCHES:
        lengths = sorted(SQUAD_LENGTHS)[rows - 1 :: rows]
        count = rows * len(lengths)
        rates.setdefault(f"all cores, batch {rows}", []).append(count / sum(lone.run(lengths, rows=rows)))
        if rows < max(_LANES_BATCHES):
            seconds = sum(lanes.run(lengths, rows=rows)) / cores
            rates.setdefault(f"a lane on each core, batch {rows}", []).append(count / seconds)


def _turn(server: Server, measured: Measured) -> None:
    with server.resumed():
        for connections, kept in ((ALONE, measured.alone), (BUSY, measured.busy)):
            answered = closed_loop(
                [server.target], connections=connections, seconds=_TURN_SECONDS, warm_up=_SETTLE_SECONDS
            )
            kept.append([each.latency for each in answered[server.target.name]])
            _drain(server)


def _drain(server: Server) -> None:
    """Wait until the server has finished the previous turn's requests, including those whose client has gone."""
    for _ in range(3):
        closed_loop([server.target], connections=ALONE, seconds=0.1, warm_up=0)


def _open(server: Server, rate: float, seconds: float) -> Load:
    with server.resumed():
        answered = poisson(server.target.port, server.target.requests, rate=rate, seconds=seconds, seed=_SEED)
    return Load(rate, seconds, tuple(answered))


if __name__ == "__main__":
    typer.run(main)
