"""`python -m tests.images`, which scripts/images runs: images built from their Dockerfiles, run for real, weighed."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from local_aws.account import default_cache
from local_aws.podman import base_image, engine
from local_aws.podman.base_image import BaseImage
from tests.images.catalog import IMAGES
from tests.images.run import Report, examine

_NO_ENGINE = 2


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 where an image does what it must not, 2 where none could be built here."""
    parser = argparse.ArgumentParser(prog="scripts/images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IMAGES)} (default: all)")
    parser.add_argument(
        "--base-image", help="what FROM names, best by digest (default: python:3.11-slim or a stand-in)"
    )
    parser.add_argument("--no-install", action="store_true", help="install nothing; end with 2 where Podman is missing")
    parser.add_argument("--no-compress", action="store_true", help="leave out the compressed sizes")
    parser.add_argument(
        "--output", type=Path, default=Path("build/images"), help="folder of bills of materials and logs"
    )
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in IMAGES]:
        parser.error(f"{', '.join(unknown)}: there is no such image; there are {', '.join(IMAGES)}")
    began = time.monotonic()
    try:
        podman, base = prepared(chosen.base_image, install=not chosen.no_install)
    except engine.EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return _NO_ENGINE
    chosen.output.mkdir(parents=True, exist_ok=True)
    reports = []
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
    ) as progress:
        for name in chosen.names or list(IMAGES):
            bar = progress.add_task(name, total=None)

            def told(step: str, name: str = name, bar: TaskID = bar) -> None:
                progress.update(bar, description=f"{name}: {step}")

            reports.append(examine(podman, base, IMAGES[name], chosen.output, weigh=not chosen.no_compress, told=told))
            progress.update(bar, description=name, total=1, completed=1)
    Console(width=None if sys.stdout.isatty() else 160).print(table(reports))
    print(f"base image: {base.name}{f' ({base.note})' if base.note else ''}")
    print(f"bills of materials: {chosen.output}; {time.monotonic() - began:.0f} s in all")
    wrong = [(report.name, each) for report in reports for each in report.outcome.wrong]
    for name, each in wrong:
        print(f"error: {name}: {each}", file=sys.stderr)
    return 1 if wrong else 0


def prepared(base: str | None, *, install: bool) -> tuple[engine.Podman, BaseImage]:
    """The engine and the base image; raises EngineError where one of the two cannot be had."""
    if missing := engine.missing():
        if not install:
            raise engine.EngineError(f"{', '.join(missing)} must be there: install it, or leave out --no-install")
        _say(f"installing {', '.join(missing)}")
        engine.install(missing, root=os.geteuid() == 0, apt=shutil.which("apt-get"))
    podman = engine.require(default_cache())
    return podman, base_image.prepare(podman, base, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(reports: list[Report]) -> Table:
    """A line for each image; sizes in 10^6 bytes."""
    made = Table()
    for column in (
        "image", "compressed MB", "unpacked MB", "layers", "packages", "s to build", "s to ready", "s to stop",
        "result",
    ):  # fmt: skip
        made.add_column(column, justify="left" if column in ("image", "result") else "right")
    for report in reports:
        built, outcome = report.built, report.outcome
        made.add_row(
            report.name,
            f"{report.compressed / 1e6:.0f}" if report.compressed is not None else "",
            f"{built.bytes / 1e6:.0f}" if built else "",
            str(built.layers) if built else "",
            str(report.packages or ""),
            f"{report.build_seconds:.1f}" if built else "",
            f"{outcome.ping_seconds:.1f}" if outcome.ping_seconds else "",
            f"{outcome.stop_seconds:.1f}" if outcome.stop_seconds else "",
            f"{len(outcome.wrong)} wrong" if outcome.wrong else "as it must be",
        )
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
