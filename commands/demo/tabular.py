"""The demo of the kind `tabular`: every model on every size, and the sizes under the same requests."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commands.demo.steps import DemoError
from containers.tabular.features import archive_name
from load_tests.closed_loop import Measurement, Target, client, invoke, measure
from load_tests.cloudwatch import ModelCacheReading, Totals, read_model_cache
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.tabular import TabularKind
from load_tests.machine import machine
from load_tests.payloads import tabular
from local_aws.account import REGION, LocalAccount
from sizing.prices import price, usd_per_million
from stacks.settings.hosting import ONLY_VARIANT
from stacks.settings.tabular import Tabular

TOLERANCE = 1e-6
"""Largest difference from XGBoost's own answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what clients saw, and what the endpoint published of the same requests."""

    target: Target
    instance_type: str
    measurement: Measurement
    hits: Totals
    waits: Totals
    evictions: float
    loaded: float


def show(workload: DeployedWorkload[Tabular], seconds: float, account: LocalAccount) -> None:
    """Ask all models on every endpoint, measure the endpoints in turns for `seconds` each, and print the table."""
    del account
    kind = TabularKind()
    sizes = {
        Target(workload.endpoint_name(key), ONLY_VARIANT): endpoint.instance_type
        for key, endpoint in workload.settings.endpoints.items()
    }
    archives, customers = kind.archives(workload), kind.customers(workload)
    for target in sizes:
        worst = ask_all(target, archives, customers)
        print(
            f"  {target.endpoint}: {len(archives)} models responded, largest difference from XGBoost {worst:.1e}",
        )
    _print(workload.name, _measure(sizes, customers, seconds))


def ask_all(target: Target, archives: Sequence[str], customers: Sequence[tabular.Customer]) -> float:
    """Asks every model for its state's customers in one request; returns the largest difference from XGBoost.

    Raises DemoError for a wrong answer.
    """
    runtime = client()
    by_archive = {archive_name(state): rows for state, rows in tabular.by_state(customers).items()}
    worst = 0.0
    for archive in archives:
        rows = by_archive.get(archive, customers[:1])
        answer = invoke(runtime, target, tabular.request(archive, rows)).decode()
        given = [float(value) for value in answer.split(",")]
        if len(given) != len(rows):
            raise DemoError(f"{target.endpoint}: {archive} gave {len(given)} answers to {len(rows)} rows")
        if archive in by_archive:
            worst = max(worst, *(abs(row.prediction - value) for row, value in zip(rows, given, strict=True)))
    if worst > TOLERANCE:
        raise DemoError(f"{target.endpoint}: an answer differs from XGBoost's by {worst:.1e}, more than {TOLERANCE}")
    return worst


def _measure(sizes: dict[Target, str], customers: Sequence[tabular.Customer], seconds: float) -> list[Row]:
    before = {target: read_model_cache(target) for target in sizes}
    requests = tabular.requests(customers)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=2 * seconds)
        found = measure(
            client(),
            {target: (target, requests) for target in sizes},
            seconds=seconds,
            on_round=lambda: progress.advance(task),
        )
    return [
        _row(target, kind, found[target], before[target], read_model_cache(target)) for target, kind in sizes.items()
    ]


def _row(
    target: Target, kind: str, measurement: Measurement, before: ModelCacheReading, after: ModelCacheReading
) -> Row:
    return Row(
        target,
        kind,
        measurement,
        after.hits.since(before.hits),
        after.waits.since(before.waits),
        after.unloads.since(before.unloads).count,
        after.loaded.maximum,
    )


def _print(name: str, rows: Sequence[Row]) -> None:
    table = Table(title=f"{name}, one request at a time, every model alike. LOCAL: {machine()}; not C5")
    for column in ("endpoint", "instance priced"):
        table.add_column(column, no_wrap=True)
    for column in (
        "queries/s", "P50 ms", "P99 ms", "models loaded", "cache hits", "evictions", "loading wait ms",
        "$ per million", "n",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        rate = row.measurement.queries_per_second
        table.add_row(
            row.target.endpoint, row.instance_type, f"{rate:.0f}",
            f"{row.measurement.percentile_ms(50):.2f}", f"{row.measurement.percentile_ms(99):.2f}",
            f"{row.loaded:.0f}", f"{row.hits.average:.1%}", f"{row.evictions:.0f}",
            f"{row.waits.average / 1000:.2f}" if row.waits.count else "-",
            f"{usd_per_million(price(REGION, row.instance_type).usd_per_hour, rate):.3f}",
            str(len(row.measurement.latencies)),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    console.print()
    console.print(table)
    console.print(
        "loading wait: mean of the requests that waited. $ per million: the instance's hourly price over the locally\n"
        "measured rate of one client, as if it ran this fast. Published, 300 users: c5.2xlarge 12,100 invocations a\n"
        "minute, 51 models loaded; c5.xlarge 1,280, 31 models, loading wait 3,630 ms"
    )
