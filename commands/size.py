"""`inference size`: hosting, instance type, count, scaling and cost for a rate and a P99 latency target."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.account import Deployment as DeploymentName
from commands.output import console, fail
from load_tests.kinds import KINDS
from load_tests.targets import deployed_workload
from sizing.costs import Comparison
from sizing.hosting import HOSTINGS, Decision
from sizing.prices import DEFAULT_REGION, PriceError
from sizing.profiles import ProfileError
from sizing.recommend import SAFETY, RecommendError
from sizing.size import SizeError, Sizing, Wanted, routing_of, size
from stacks.settings.deployment import Deployment, DeploymentError


def size_workload(  # noqa: PLR0913 - options of the command
    workload: Annotated[str, typer.Argument(help="name of a workload in the deployment")],
    rate: Annotated[float, typer.Option(help="requests per second at the peak")],
    p99: Annotated[float, typer.Option(help="P99 latency target, in milliseconds")],
    deployment: DeploymentName = "dev",
    measured: Annotated[Path | None, typer.Option(help="JSON file of profiles instead of the recorded ones")] = None,
    safety: Annotated[float, typer.Option(help="share of the maximum rate to aim at")] = SAFETY,
    min_instances: Annotated[int, typer.Option(help="fewest instances")] = 1,
    routing: Annotated[str, typer.Option(help="random, or least_outstanding")] = "random",
    idle_share: Annotated[float, typer.Option(help="share of the time without a request, 0 to below 1")] = 0.0,
    deadline_seconds: Annotated[
        float | None, typer.Option(help="response deadline in seconds, where no caller waits")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="all data exists beforehand, and nobody waits")] = False,
    payload_mib: Annotated[
        float | None, typer.Option(help="larger of request and response; default: the kind's")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(help="memory of the container with its model; default: the kind's")
    ] = None,
    models: Annotated[
        int | None, typer.Option(min=1, help="models that could share a container; default: the kind's")
    ] = None,
    cold_start_seconds: Annotated[float, typer.Option(help="assumed cold start of a serverless container")] = 10.0,
    region: Annotated[str, typer.Option(help="region of the prices")] = DEFAULT_REGION,
    output: Annotated[Path, typer.Option(help="folder of the figures and the picture")] = Path("build/size"),
) -> None:
    """Recommend hosting, instance type, count and scaling of a workload, and say why every other candidate lost."""
    try:
        found = deployed_workload(Deployment.named(deployment), workload)
        kind = KINDS[found.settings.kind]
        facts = replace(
            kind.facts,
            payload_mib=kind.facts.payload_mib if payload_mib is None else payload_mib,
            memory_gib=kind.facts.memory_gib if memory_gib is None else memory_gib,
            models=models or kind.facts.models,
        )
        wanted = Wanted(
            rate=rate, p99_ms=p99, facts=facts, region=region, safety=safety, min_instances=min_instances,
            routing=routing_of(routing), idle_share=idle_share, deadline_seconds=deadline_seconds, offline=offline,
            cold_start_seconds=cold_start_seconds,
        )  # fmt: skip
        unfit = kind.unfit(found.settings, wanted)
        sizing = size(workload, wanted, measured=measured, unfit=unfit)
    except (DeploymentError, SizeError, ProfileError, PriceError, RecommendError, ValueError) as error:
        fail(str(error))
    show(sizing, console(160))
    write(sizing, output / workload)


def show(sizing: Sizing, console: Console) -> None:
    """Print the tables and the recommendation."""
    console.print(_candidates(sizing))
    console.print(_comparison(sizing.comparisons))
    console.print(_rules(sizing.decision))
    others = [hosting for hosting in HOSTINGS if hosting != sizing.decision.hosting]
    table = Table(title="hostings")
    for column in ("hosting", "verdict", "reason"):
        table.add_column(column)
    last = sizing.decision.asked[-1]
    decided = f"{last.rule.question} {'yes' if last.answer else 'no'}: {last.facts}"
    table.add_row(sizing.decision.hosting, Text("chosen", "green"), decided)
    for hosting in others:
        table.add_row(hosting, "lost", sizing.decision.why_not(hosting))
    console.print(table)
    for line in sizing.break_evens:
        console.print(line, highlight=False)
    profile = sizing.chosen.profile
    console.print(sizing.conclusion, highlight=False)
    if profile.place != "aws":
        note = f"These figures are {profile.place}: {profile.source}. Measure on AWS before you rely on them."
        console.print(note, highlight=False)
    console.print(yaml.safe_dump(sizing.settings, sort_keys=False).rstrip(), highlight=False)


def write(sizing: Sizing, folder: Path) -> None:
    """Write size.json, and the decision tree as hosting.png where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "size.json").write_text(json.dumps(sizing.summary(), indent=1) + "\n")
    try:
        from sizing.hosting_picture import draw
    except ImportError:
        print("no picture: install the extra `sizing`, which brings matplotlib", file=sys.stderr)
    else:
        draw(sizing.decision, folder / "hosting.png")
    print(f"the figures and the picture are in {folder}", file=sys.stderr)


def _candidates(sizing: Sizing) -> Table:
    demand = sizing.demand
    table = Table(title=f"candidates for {demand.rate:g} requests/s within {demand.p99_ms:g} ms, {demand.routing}")
    for column in ("candidate", "verdict", "reason"):
        table.add_column(column)
    for column in ("instances", "P50 ms", "P99 ms", "target a minute", "used", "$ an hour", "$ per million"):
        table.add_column(column, justify="right")
    for verdict in sizing.verdicts:
        found = verdict.sized
        figures = ["-"] * 7 if found is None else [
            str(found.instances), f"{found.p50_ms:,.1f}", f"{found.p99_ms:,.1f}", f"{found.target:,.0f}",
            f"{found.utilization:.0%}", f"{found.usd_per_hour:.3f}", f"{found.usd_per_million:.2f}",
        ]  # fmt: skip
        table.add_row(
            verdict.profile.name, Text("chosen", "green") if verdict.chosen else "lost", verdict.reason, *figures
        )
    return table


def _comparison(rows: Sequence[Comparison]) -> Table:
    table = Table(title="instances that are always busy, as published tables compare them")
    for column in ("variant", "instance", "place"):
        table.add_column(column)
    for column in ("P50 ms", "P90 ms", "queries/s", "$ per million", "performance per $"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.variant, row.instance_type, row.place, f"{row.p50_ms:,.2f}", f"{row.p90_ms:,.2f}",
            f"{row.queries_per_second:,.1f}", f"{row.usd_per_million:.2f}", f"{row.relative:.2f}",
        )  # fmt: skip
    return table


def _rules(decision: Decision) -> Table:
    table = Table(title="which hosting: the rules in order, up to the one that decides")
    for column in ("rule", "answer", "figures", "leads to", "source"):
        table.add_column(column)
    for number, asked in enumerate(decision.asked, 1):
        leads = asked.rule.yes if asked.answer else asked.rule.no
        answer = "yes" if asked.answer else "no"
        table.add_row(f"{number}. {asked.rule.question}", answer, asked.facts, leads or "the next", asked.rule.source)
    return table
