"""Send generated requests to every image's server; scripts/fuzz runs this module."""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tools.fuzz import fuzz_container
from tools.fuzz.run import Report, save
from tools.fuzz.servers import SERVERS


def main(arguments: list[str]) -> int:
    """Run the fuzzer; return 1 if a container gave a response that violates the contract."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="requests per container (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first 1,000 requests, plus one per 1,000")
    parser.add_argument("--container", action="append", choices=sorted(SERVERS), help="only this one; repeatable")
    parser.add_argument(
        "--output", type=Path, default=Path("build/fuzz"), help="folder for requests that found something"
    )
    chosen = parser.parse_args(arguments)
    if chosen.requests < 1:
        parser.error(f"--requests is {chosen.requests}: it must be 1 or more")
    reports = []
    names = chosen.container or list(SERVERS)
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in names:
            bar = progress.add_task(name, total=chosen.requests)
            report = fuzz_container(
                name, Path(folder), requests=chosen.requests, seed=chosen.seed,
                report_progress=functools.partial(progress.advance, bar),
            )  # fmt: skip
            reports.append(report)
    Console(width=None if sys.stdout.isatty() else 160).print(_table(reports))
    findings = [finding for report in reports for finding in report.findings]
    for finding, path in zip(findings, save(findings, chosen.output), strict=True):
        print(f"error: {finding.container}, seed {finding.seed}: {finding.what}\n  request: {path}", file=sys.stderr)
    return 1 if findings else 0


def _table(reports: list[Report]) -> Table:
    table = Table()
    for column in (
        "container", "requests", "malformed", "2xx", "4xx", "503", "507", "other 5xx", "routes", "worst s",
        "neighbor s", "MiB before", "MiB after", "MiB peak", "seconds",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "container" else "right")
    for report in reports:
        stated = [report.statuses[status] for status in (503, 507)]
        table.add_row(
            report.container, f"{report.requests:,}", f"{report.connections:,}", f"{report.of_class(2):,}",
            f"{report.of_class(4):,}", *(f"{count:,}" for count in stated), f"{report.of_class(5) - sum(stated):,}",
            str(len(report.routes)), f"{report.worst:.2f}", f"{report.neighbor:.2f}", f"{report.before:.0f}",
            f"{report.after:.0f}", f"{report.peak:.0f}", f"{report.seconds:.0f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
