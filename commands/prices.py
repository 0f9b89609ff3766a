"""`inference prices refresh`: read hosting prices from the AWS Price List."""

import datetime
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import track

from commands.output import fail
from sizing.price_list import look_up, newest, pricing_client
from sizing.prices import TABLE, PriceError, read_prices, write_prices

app = typer.Typer(help="Keep the price table up to date.", no_args_is_help=True)
_KEPT = "the table is kept as it was"


@app.callback()
def _prices() -> None:
    """Keep the price table up to date."""


@app.command()
def refresh(
    region: Annotated[list[str] | None, typer.Option(help="region to add; repeatable")] = None,
    instance: Annotated[list[str] | None, typer.Option(help="instance type to add; repeatable")] = None,
    table: Annotated[Path, typer.Option(help="price table", show_default="the project's own")] = TABLE,
) -> None:
    """Read every price of the table, and of what is added, from the AWS Price List, and write the table anew.

    Needs credentials that may call pricing:GetProducts. Without network, or where a price does not have exactly one
    product, it says so, keeps the table and exits with 1.
    """
    rows = read_prices(table)
    regions, types = {row.region for row in rows}, {row.instance_type for row in rows}
    added, more = set(region or ()), set(instance or ())
    wanted = sorted(
        {(row.region, row.instance_type) for row in rows}
        | {(place, kind) for place in added for kind in types | more}
        | {(place, kind) for place in regions for kind in more}
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        client = pricing_client()
        found = [
            look_up(client, region=place, instance_type=kind, as_of=today)
            for place, kind in track(wanted, "reading the price list", console=Console(stderr=True), transient=True)
        ]
    except PriceError as error:
        fail(f"{error}; {_KEPT}")
    except (BotoCoreError, ClientError) as error:
        fail(f"the AWS Price List cannot be read: {error}; {_KEPT}, its newest row of {newest(rows)}")
    write_prices(found, table)
    before = {(row.region, row.instance_type): row.usd_per_hour for row in rows}
    for row in found:
        old = before.get((row.region, row.instance_type))
        if old != row.usd_per_hour:
            print(
                f"{row.region} {row.instance_type}: {'new' if old is None else old} -> {row.usd_per_hour:g} $ an hour"
            )
    print(f"{len(found)} prices as of {today} in {table.name}")
