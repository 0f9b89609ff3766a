"""`inference neuron top`: what every NeuronCore of a server does, live in the terminal."""

import time
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from commands.account import State
from commands.output import console, fail
from load_tests.neuron_metrics import CoreActivity, CoreReading, NotMetricsError, activity, read_cores
from local_aws.account import LocalAccount
from local_aws.status import ready_servers

_BAR = 24
_SECONDS = 10


def top(
    state: State,
    urls: Annotated[
        list[str] | None,
        typer.Argument(help="servers, as http://HOST:PORT; without any those of the local account that runs"),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.2, help="seconds between readings")] = 1.0,
    looks: Annotated[int, typer.Option(min=0, help="readings before it ends; 0: until interrupted")] = 0,
) -> None:
    """Show utilization, requests, batches and queue of every core, read from the servers' /metrics.

    On AWS a server is reached by a port forwarded through Session Manager. Exit code 1 when no server answers.
    """
    try:
        found = urls or local_servers(LocalAccount.read(state.absolute()))
        watch(found, interval, looks, console(120))
    except (LookupError, NotMetricsError) as error:
        fail(str(error))
    except httpx.HTTPError as error:
        fail(f"{error.request.url} does not answer: {error}; is the server up, and the port right?")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def local_servers(account: LocalAccount | None, endpoint_name: str | None = None) -> list[str]:
    """Return the servers of a local account that have NeuronCores, of one endpoint where it is named.

    Raises LookupError without any; errors of httpx pass through.
    """
    if account is None:
        raise LookupError("no local account runs and no URL is given: `inference local up`, or name http://HOST:PORT")
    found = [
        url
        for name, urls in ready_servers(account).items()
        if endpoint_name in (None, name)
        for url in urls
        if _has_cores(url)
    ]
    if not found:
        raise LookupError("the local account serves nothing on NeuronCores: deploy it, or name http://HOST:PORT")
    return found


def _has_cores(url: str) -> bool:
    try:
        _read(url)
    except NotMetricsError:
        return False
    return True


def watch(urls: list[str], interval: float, looks: int, console: Console) -> None:
    """Draws a table of all cores every interval; errors of httpx and NotMetricsError pass through."""
    before = {url: _read(url) for url in urls}
    since = time.monotonic()
    seen = 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not looks or seen < looks:
            time.sleep(interval)
            after = {url: _read(url) for url in urls}
            now = time.monotonic()
            rows = [(url, each) for url in urls for each in activity(before[url], after[url], now - since)]
            live.update(table(rows), refresh=True)
            before, since, seen = after, now, seen + 1


def table(rows: list[tuple[str, CoreActivity]]) -> Table:
    """One line for each core group, and their mean utilization above."""
    mean = sum(each.utilization for _, each in rows) / len(rows)
    made = Table(title=f"{len(rows)} NeuronCore groups, {mean:.0%} busy")
    for column in ("server", "core", "busy"):
        made.add_column(column, no_wrap=True)
    for column in ("%", "requests/s", "failed/s", "windows a batch", "queued"):
        made.add_column(column, justify="right")
    for url, each in rows:
        filled = round(_BAR * each.utilization)
        made.add_row(
            url.removeprefix("http://"),
            each.core,
            "█" * filled + "░" * (_BAR - filled),
            f"{100 * each.utilization:.1f}",
            f"{each.answered_per_second:.1f}",
            f"{each.failed_per_second:.1f}",
            f"{each.mean_batch:.1f}",
            f"{each.queued:.0f}",
        )
    return made


def _read(url: str) -> dict[str, CoreReading]:
    answer = httpx.get(f"{url.rstrip('/')}/metrics", timeout=_SECONDS, trust_env=False)
    answer.raise_for_status()
    return read_cores(answer.text)
