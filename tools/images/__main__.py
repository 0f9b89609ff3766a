"""Build images from their Dockerfiles, run them for real, and measure them; scripts/images runs this module."""

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
from tools.images.catalog import IMAGES
from tools.images.run import Report, examine

_NO_ENGINE = 2


def main(arguments: list[str]) -> int:
    """Run the checks; return 1 if an image fails one, 2 if no image could be built here."""
    parser = argparse.ArgumentParser(prog="scripts/images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(IMAGES)} (default: all)")
    parser.add_argument(
        "--base-image", help="base image for FROM, preferably by digest (default: python:3.11-slim or a substitute)"
    )
    parser.add_argument("--no-install", action="store_true", help="install nothing; exit with 2 if Podman is missing")
    parser.add_argument("--no-compress", action="store_true", help="skip measuring compressed sizes")
    parser.add_argument(
        "--output", type=Path, default=Path("build/images"), help="folder for bills of materials and logs"
    )
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in IMAGES]:
        parser.error(f"unknown images: {', '.join(unknown)}; available: {', '.join(IMAGES)}")
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

            def report_step(step: str, name: str = name, bar: TaskID = bar) -> None:
                progress.update(bar, description=f"{name}: {step}")

            weigh = not chosen.no_compress
            reports.append(examine(podman, base, IMAGES[name], chosen.output, weigh=weigh, report_step=report_step))
            progress.update(bar, description=name, total=1, completed=1)
    Console(width=None if sys.stdout.isatty() else 160).print(table(reports))
    print(f"base image: {base.name}{f' ({base.note})' if base.note else ''}")
    print(f"bills of materials: {chosen.output}; {time.monotonic() - began:.0f} s in total")
    wrong = [(report.name, each) for report in reports for each in report.outcome.wrong]
    for name, each in wrong:
        print(f"error: {name}: {each}", file=sys.stderr)
    return 1 if wrong else 0


def prepared(base: str | None, *, install: bool) -> tuple[engine.Podman, BaseImage]:
    """Return the engine and the base image; raise EngineError if either is unavailable."""
    if missing := engine.missing():
        if not install:
            raise engine.EngineError(f"missing packages: {', '.join(missing)}; install them, or omit --no-install")
        _say(f"installing {', '.join(missing)}")
        engine.install(missing, root=os.geteuid() == 0, apt=shutil.which("apt-get"))
    podman = engine.require(default_cache())
    return podman, base_image.prepare(podman, base, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(reports: list[Report]) -> Table:
    """Return a table with one row per image; sizes in 10^6 bytes."""
    rows = Table()
    for column in (
        "image", "compressed MB", "unpacked MB", "layers", "packages", "build s", "ready s", "stop s",
        "result",
    ):  # fmt: skip
        rows.add_column(column, justify="left" if column in ("image", "result") else "right")
    for report in reports:
        built, outcome = report.built, report.outcome
        rows.add_row(
            report.name,
            f"{report.compressed / 1e6:.0f}" if report.compressed is not None else "",
            f"{built.bytes / 1e6:.0f}" if built else "",
            str(built.layers) if built else "",
            str(report.packages or ""),
            f"{report.build_seconds:.1f}" if built else "",
            f"{outcome.ping_seconds:.1f}" if outcome.ping_seconds else "",
            f"{outcome.stop_seconds:.1f}" if outcome.stop_seconds else "",
            f"{len(outcome.wrong)} failed" if outcome.wrong else "passed",
        )
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
