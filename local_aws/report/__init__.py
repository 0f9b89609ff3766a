"""`inference report`: which variant to choose and why, as one HTML page, Markdown and JSON; and what changed since."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from local_aws.account import ROOT, LocalAccount, default_state
from local_aws.cli import NO_RESULT, fail
from local_aws.deployed import machine
from local_aws.report.compare import TOLERANCE, Difference, compare, regressed
from local_aws.report.model import Report, ReportError
from stacks.settings import Deployment, DeploymentError

FOLDER = ROOT / "build" / "report"
_MEASURED = "load_tests"
_STYLES = {"worse": "red", "gone": "red", "better": "green"}


def report(
    workloads: Annotated[list[str] | None, typer.Argument(help="without any, all of the deployment")] = None,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    seconds: Annotated[float, typer.Option(min=1, help="measured time of each load test")] = 8.0,
    rate: Annotated[float, typer.Option(min=0.001, help="requests a second at the peak, to size for")] = 100.0,
    p99: Annotated[float | None, typer.Option(min=0.001, help="ms; the endpoint's alarm without it")] = None,
    measure: Annotated[bool, typer.Option(help="run the load tests; without, take what the last run left")] = True,
    compare_with: Annotated[Path | None, typer.Option("--compare", help="an earlier report.json")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="relative change that is noise")] = TOLERANCE,
    output: Annotated[Path, typer.Option(help="folder of report.html, report.md and report.json")] = FOLDER,
    state: Annotated[Path | None, typer.Option(help="folder of the local account's state")] = None,
) -> None:
    """Loads every endpoint, decides between its variants, and writes the report.

    Works on the local account that runs, or without one on the AWS account of the environment. Exit code 1 when
    --compare finds that something became worse, 2 without a report.
    """
    account = LocalAccount.read((state or default_state()).absolute())
    if account is not None:
        os.environ.update(account.environment())
    try:
        settings = Deployment.named(deployment)
        for workload in workloads or ():
            if workload not in settings.workloads.enabled:
                known = ", ".join(settings.workloads.enabled)
                raise ReportError(f"workload {workload!r} is not in {deployment}: choose from {known}")
        before = Report.read(compare_with) if compare_with is not None else None
        chosen = workloads or list(settings.workloads.enabled)
        made = make(settings, chosen, account, output, seconds=seconds, rate=rate, p99_ms=p99, measure=measure)
        differences = [] if before is None else compare(before, made, tolerance)
    except (DeploymentError, ReportError, ValueError) as error:
        fail(str(error), NO_RESULT)
    except (BotoCoreError, ClientError) as error:
        fail(f"the report cannot be made: {error}; is everything deployed?", NO_RESULT)
    except httpx.HTTPError as error:
        fail(f"the local account does not answer: {error}; see `inference local status`", NO_RESULT)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False)
    print_verdicts(made, console)
    if before is not None:
        console.print(_changes(before, differences))
        if regressed(differences):
            raise typer.Exit(1)


def make(
    settings: Deployment,
    workloads: Sequence[str],
    account: LocalAccount | None,
    output: Path,
    *,
    seconds: float,
    rate: float,
    p99_ms: float | None,
    measure: bool = True,
) -> Report:
    """Measures where asked to, and writes report.html, report.md and report.json; raises ReportError."""
    from local_aws.report import measure as load_tests
    from local_aws.report.collect import collect
    from local_aws.report.render import html, markdown

    folder = output / _MEASURED
    here = machine()
    targets = {workload: load_tests.targets(settings, workload, account) for workload in workloads}
    local = account is not None
    if measure:
        tests = 2 * sum(map(len, targets.values()))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("load tests", total=tests)

            def on_test(name: str, done: int) -> None:
                progress.update(task, completed=done, description=f"loading {name}")

            load_tests.measure(
                settings, targets, local=local, seconds=seconds, machine=here, folder=folder, on_test=on_test
            )
    made = collect(
        settings, targets, local=local, folder=folder, machine=here, commit=_commit(), rate=rate, p99_ms=p99_ms
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(made.model_dump_json(indent=1) + "\n")
    (output / "report.md").write_text(markdown(made))
    (output / "report.html").write_text(html(made))
    where = os.path.relpath(output / "report.html", Path.cwd())
    print(f"the report is in {where}; report.md and report.json are beside it", file=sys.stderr)
    return made


def print_verdicts(made: Report, console: Console) -> None:
    """The decision of every group, with the reason that each other candidate lost."""
    table = Table(title=f"which variant, and why. {'LOCAL' if made.location == 'local' else 'AWS'}: {made.machine}")
    table.add_column("group")
    table.add_column("candidate", overflow="fold")
    for column in ("requests/s", "$ a million"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict")
    for group in made.groups:
        for number, judged in enumerate(group.judged):
            candidate = group.candidate(judged.name)
            assert candidate is not None
            table.add_row(
                group.title if not number else "",
                judged.name,
                f"{candidate.busy.rate:.1f}" if candidate.busy else "-",
                f"{candidate.usd_per_million:.3g}" if candidate.usd_per_million is not None else "-",
                f"{'chosen: ' if judged.chosen else ''}{judged.reason}",
                style="bold" if judged.chosen else None,
                end_section=number == len(group.judged) - 1,
            )
    console.print(table)


def _changes(before: Report, differences: list[Difference]) -> Table:
    table = Table(title=f"since the report of {before.made_at:%Y-%m-%d %H:%M} UTC")
    table.add_column("candidate")
    table.add_column("figure")
    for column in ("before", "now", "change"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for each in differences:
        values = ["-" if value is None else f"{value:.4g}" for value in (each.before, each.after)]
        change = "-" if each.change is None else f"{each.change:+.1%}"
        table.add_row(each.candidate, each.figure, *values, change, each.verdict, style=_STYLES.get(each.verdict))
    return table


def _commit() -> str | None:
    """The project's commit; None outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
