"""`python -m benchmarks.unet_tfs`: tunes TensorFlow, measures it beside OpenVINO INT8, and records the result."""

import datetime
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.unet_tfs.measure import measure
from benchmarks.unet_tfs.report import Result, record, show
from benchmarks.unet_tfs.servers import Environments, build
from containers.serving.errors import StartupError
from load_tests.tuning.search import TrialFailedError
from local_aws.account import default_cache

_MISSED, _NOT_MEASURED, _INTERRUPTED = 1, 2, 130
_HERE = Path(__file__).parent


def main(
    cache: Annotated[
        Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps environments and builds")
    ],
    rounds: Annotated[int, typer.Option(min=3, help="turns of every server and form")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="one turn")] = 3.0,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = _HERE / "results",
) -> None:
    """Compares the best TensorFlow setting with OpenVINO INT8 on this machine: images a second, IoU, overhead.

    Builds the model first, which trains for minutes unless the cache has it. Exits with 1 when a target is missed, and
    with 2 when nothing could be measured.
    """
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, signal.default_int_handler)
    try:
        _say("building")
        built = build(cache)
        environments = Environments.make(cache)
        machine = Machine.read()
        with tempfile.TemporaryDirectory(prefix="unet-tfs-") as folder:
            figures = measure(built, environments, Path(folder), rounds=rounds, seconds=seconds, on_step=_say)
    except (BenchmarkError, TrialFailedError, StartupError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: everything is stopped, nothing is recorded", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    result = Result(date=datetime.datetime.now(datetime.UTC).date().isoformat(), machine=machine, figures=figures)
    console = Console(width=140)
    show(result, console)
    written = " and ".join(path.name for path in record(result, results))
    console.print(f"{'every target is met' if result.met else 'a target is missed'}; recorded in {written}")
    if not result.met:
        raise typer.Exit(_MISSED)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(_NOT_MEASURED)


if __name__ == "__main__":
    typer.run(main)
