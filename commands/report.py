"""`inference report`: which variant to choose and why, as one HTML page, Markdown and JSON; and what changed since."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commands.account import Deployment as DeploymentName
from commands.account import State, reached, selected_account
from commands.output import NO_RESULT, console, fail
from load_tests.machine import machine
from load_tests.planning import Place
from load_tests.report.compare import TOLERANCE, Difference, compare, regressed
from load_tests.report.model import Demanded, Report, ReportError
from load_tests.targets import deployed_workload
from local_aws.account import ROOT, LocalAccount
from stacks.settings.deployment import Deployment, DeploymentError

FOLDER = ROOT / "build" / "report"
_MEASURED = "load_tests"
_STYLES = {"worse": "red", "gone": "red", "better": "green"}


@dataclass(frozen=True, slots=True)
class Options:
    """How a report measures and what it sizes for.

    seconds: measured time of each load test. rate: requests per second at the peak. p99_ms: P99 latency target, in
    milliseconds; None takes each endpoint's alarm. measure: False takes what an earlier run left.
    """

    seconds: float
    rate: float
    p99_ms: float | None = None
    measure: bool = True


def report(  # noqa: PLR0913 - options of the command
    state: State,
    workloads: Annotated[list[str] | None, typer.Argument(help="workloads; default: all of the deployment")] = None,
    deployment: DeploymentName = "dev",
    seconds: Annotated[float, typer.Option(min=1, help="measured seconds of each load test")] = 8.0,
    rate: Annotated[float, typer.Option(min=0.001, help="peak requests per second, to size for")] = 100.0,
    p99: Annotated[
        float | None, typer.Option(min=0.001, help="P99 latency target, in milliseconds; default: the alarm's")
    ] = None,
    measure: Annotated[bool, typer.Option(help="run the load tests, or take the results of the last run")] = True,
    compare_with: Annotated[Path | None, typer.Option("--compare", help="report.json of an earlier report")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="relative change that counts as noise")] = TOLERANCE,
    output: Annotated[Path, typer.Option(help="folder of report.html, report.md and report.json")] = FOLDER,
) -> None:
    """Load every endpoint, decide between its variants, and write the report.

    Works on the running local account, or without one on the AWS account of the environment. Exit code 1 when --compare
    finds that something became worse, 2 without a report.
    """
    try:
        settings = Deployment.named(deployment)
        before = Report.read(compare_with) if compare_with is not None else None
        with selected_account(state) as account:
            chosen = workloads or list(settings.workloads)
            made = make(settings, chosen, account, output, Options(seconds, rate, p99, measure))
        differences = [] if before is None else compare(before, made, tolerance)
    except (DeploymentError, ReportError, ValueError) as error:
        fail(str(error), NO_RESULT)
    except (BotoCoreError, ClientError) as error:
        fail(f"the report cannot be made: {error}; is everything deployed?", NO_RESULT)
    except httpx.HTTPError as error:
        fail(f"the local account does not respond: {error}; see `inference local status`", NO_RESULT)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    print_verdicts(made, console())
    if before is not None:
        console().print(_changes(before, differences))
        if regressed(differences):
            raise typer.Exit(1)


def make(
    settings: Deployment,
    workloads: Sequence[str],
    account: LocalAccount | None,
    output: Path,
    options: Options,
) -> Report:
    """Measure where asked to, and write report.html, report.md and report.json; raises ReportError."""
    from load_tests.report import measure as load_tests
    from load_tests.report.collect import collect
    from load_tests.report.render import html, markdown

    folder = output / _MEASURED
    found = [deployed_workload(settings, name) for name in workloads]
    targets = {workload.name: load_tests.targets(workload, reached(account)) for workload in found}
    if options.measure:
        tests = 2 * sum(map(len, targets.values()))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("load tests", total=tests)

            def on_test(name: str, done: int) -> None:
                progress.update(task, completed=done, description=f"loading {name}")

            place = Place(account is not None, machine())
            load_tests.measure(found, targets, place, folder=folder, seconds=options.seconds, on_test=on_test)
    demand = Demanded(rate=options.rate, p99_ms=options.p99_ms)
    made = collect(
        found, targets, Place(account is not None, machine()), folder=folder, demand=demand, commit=_commit()
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(made.model_dump_json(indent=1) + "\n")
    (output / "report.md").write_text(markdown(made))
    (output / "report.html").write_text(html(made))
    where = os.path.relpath(output / "report.html", Path.cwd())
    print(f"the report is in {where}; report.md and report.json are beside it", file=sys.stderr)
    return made


def print_verdicts(made: Report, console: Console) -> None:
    """Print the decision of every group, with the reason why each other candidate lost."""
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
    """Return the project's commit, or None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
