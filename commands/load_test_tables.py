"""A load test on the terminal: how it goes, and what came out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from load_tests.launch import Event
from load_tests.plan import Plan
from load_tests.result import LoadResult, NameResult, Percentile

_MOST_NAMES = 24
_SHOWN = (50.0, 90.0, 95.0, 99.0)


@contextmanager
def progress(plan: Plan) -> Iterator[Callable[[Event], None]]:
    """Show a progress bar on stderr with the latest rate and latency; yield what consumes the master's events."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"loading {plan.endpoint}", total=plan.warm_up + plan.seconds, now="starting")

        def on_event(event: Event) -> None:
            if event["event"] == "status":
                bar.update(task, now=event["text"])
            if event["event"] != "second":
                return
            latency = f", P99 {event['p99_ms']:.3g} ms" if event["p99_ms"] is not None else ""
            failed = f", {event['failed']} failed" if event["failed"] else ""
            bar.update(
                task,
                completed=event["second"] + 1,
                now=f"{event['answered']}/s{latency}{failed}" + ("" if event["measured"] else " (warm-up)"),
            )

        yield on_event


def show(result: LoadResult, console: Console) -> None:
    """Print the table, the state of the client itself, and the gates."""
    console.print(_table(result))
    reached = result.reached
    if reached.share is not None:
        line = f"open loop: {reached.rate_wanted:.4g} requests/s wanted, {reached.share:.2%} of them sent"
    else:
        line = f"closed loop: {reached.users_wanted} users wanted, {reached.users_reached} there"
    saturation = result.saturation
    console.print(
        f"{line}; {len(result.workers)} workers, {saturation.cpu_mean:.0%} busy, "
        f"{saturation.lag_p99_ms:.1f} ms late (P99)",
        highlight=False,
    )
    console.print("~: fewer than ten samples beyond it; *: as many samples as MLPerf asks for", highlight=False)
    for reason in saturation.reasons:
        console.print(Text("client saturated:", "yellow"), reason, highlight=False)
    for outcome in result.gates:
        mark = Text("passed", "green") if outcome.passed else Text("failed", "red")
        console.print(mark, outcome.found, sep="  ", highlight=False)


def _table(result: LoadResult) -> Table:
    where = (
        f"LOCAL: {result.machine}; not {result.instance_type}" if result.location == "local" else result.instance_type
    )
    name = f"{result.endpoint}/{result.variant}" if result.variant else result.endpoint
    made = Table(title=f"{name}, {result.measured_seconds:.0f} s. {where}")
    made.add_column("requests", no_wrap=True)
    for column in ("answered", "failed", "per second", *(f"P{percent:g} ms" for percent in _SHOWN), "longest ms"):
        made.add_column(column, justify="right")
    names = result.names if 1 < len(result.names) <= _MOST_NAMES else ()
    for each in (*names, result.total):
        percentiles = [_cell(each.percentile(percent)) for percent in _SHOWN]
        made.add_row(
            each.name,
            str(each.answered),
            _failed(each),
            f"{each.answered_per_second:.1f}",
            *percentiles,
            f"{each.max_ms:.4g}" if each.answered else "-",
        )
    return made


def _cell(percentile: Percentile | None) -> str:
    if percentile is None:
        return "-"
    mark = {"too_few": "~", "fair": "", "mlperf": "*"}[percentile.samples]
    if percentile.low_ms is None or percentile.high_ms is None:
        return f"{percentile.value_ms:.3g}{mark}"
    return f"{percentile.value_ms:.3g}{mark} ({percentile.low_ms:.3g}-{percentile.high_ms:.3g})"


def _failed(each: NameResult) -> str:
    return f"{each.failed} ({', '.join(each.failures)})" if each.failed else "0"
