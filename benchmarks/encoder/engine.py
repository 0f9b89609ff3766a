"""`python -m benchmarks.encoder.engine`: compare engines on BERT-base and show what is left to gain."""

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar, say
from benchmarks.encoder.agreement import CHECKED_LENGTHS, check
from benchmarks.encoder.engine_report import EngineResult, Limit, Measured
from benchmarks.encoder.engines import OURS, RIVALS, Models, make, running
from benchmarks.encoder.lengths import LONGEST, SQUAD_LENGTHS
from benchmarks.encoder.rival_models import with_rivals
from benchmarks.machine import Machine
from benchmarks.peak import peak_gigaoperations

_LIMIT_RUNS = 12


def main(
    cache: CacheOption,
    turns: Annotated[int, typer.Option(min=2, help="turns of every engine, each over forty lengths")] = 6,
    results: ResultsOption = Path(__file__).parent / "results",
    ipex: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            help="interpreter that has Intel Extension for PyTorch and its build's packages",
            show_default="left out",
        ),
    ] = None,
) -> None:
    """Compare engines at batch 1 with the lengths of SQuAD: what INT8 gives, what no padding gives, and both.

    Builds the models first, and checks that all engines give the same responses. Exits with 1 when a target is missed,
    and with 2 when nothing could be measured.
    """
    with measuring(), tempfile.TemporaryDirectory(prefix="encoder-") as name:
        folder = Path(name)
        say("building BERT-base's shape for every engine")
        models = make(cache, folder, ("vnni", "openvino", "onnxruntime"))
        models = with_rivals(models, cache, folder, ipex)
        machine = Machine.read()
        measured = _measure(models, machine.cores, turns, folder)
        say("measuring how far from the processor's limit")
        limit = _limit(models, machine.cores, folder)
    result = EngineResult(machine=machine, turns=turns, measured=measured, limit=limit, left_out=models.left_out)
    conclude(result, result.record(results))


def _measure(models: Models, threads: int, turns: int, folder: Path) -> tuple[Measured, ...]:
    """Run every engine in turn over all lengths, in an order that is new in each turn and the same for all.

    Raises BenchmarkError for an engine that responds differently from the others.
    """
    seconds: dict[str, list[tuple[float, ...]]] = {rival.name: [] for rival in models.rivals}
    order = random.Random(0)
    with ExitStack() as stack, progress_bar() as progress:
        task = progress.add_task("load and warm", total=len(seconds) * (turns + 1))
        workers = []
        for rival in models.rivals:
            worker = stack.enter_context(running(rival, models, threads, folder))
            worker.run(SQUAD_LENGTHS)
            workers.append(worker)
            progress.update(task, advance=1, refresh=True)
        distances = check([(worker.rival, worker.logits(CHECKED_LENGTHS)) for worker in workers])
        progress.update(task, description="measure in turns")
        for _ in range(turns):
            lengths = order.sample(SQUAD_LENGTHS, len(SQUAD_LENGTHS))
            for worker in workers:
                # The previous engine has filled the caches; warm them up again.
                worker.run(lengths[:2])
                seconds[worker.rival.name].append(tuple(worker.run(lengths)))
                progress.update(task, advance=1, refresh=True)
    return tuple(Measured(rival, tuple(seconds[rival.name]), distances[rival.name]) for rival in models.rivals)


def _limit(models: Models, cores: int, folder: Path) -> Limit:
    """Run our engine at the longest length, on one thread and on all, in turns."""
    ours = next(rival for rival in RIVALS if rival.name == OURS)
    seconds: dict[int, list[float]] = {1: [], cores: []}
    with ExitStack() as stack:
        workers = {threads: stack.enter_context(running(ours, models, threads, folder)) for threads in seconds}
        for worker in workers.values():
            worker.run([LONGEST] * 3)
        for _ in range(_LIMIT_RUNS):
            for threads, worker in workers.items():
                seconds[threads] += worker.run([LONGEST] * 2)
        # The peak is measured in between because a core's frequency depends on its load.
        peak = peak_gigaoperations(folder)
    return Limit(peak, tuple(seconds[1]), tuple(seconds[cores]), cores)


if __name__ == "__main__":
    typer.run(main)
