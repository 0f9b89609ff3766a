"""`inference prices refresh`: hosting prices from the AWS Price List."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import boto3
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import track

from sizing.prices import Price, PriceError, read_prices, write_prices
from sizing.size import fail

if TYPE_CHECKING:
    from mypy_boto3_pricing import PricingClient

_SERVICE = "AmazonSageMaker"
_REGION = "us-east-1"
"""The price list has endpoints in few regions, each with the prices of all (Price List Query API, AWS guide)."""
_ENDPOINT = f"https://api.pricing.{_REGION}.amazonaws.com"
"""Named, so that AWS_ENDPOINT_URL does not lead to the local account, which has no price list."""
_SECONDS = 10
_KEPT = "the table is kept as it was"


def refresh(
    region: Annotated[list[str] | None, typer.Option(help="a region to add; may be repeated")] = None,
    instance: Annotated[list[str] | None, typer.Option(help="an instance type to add; may be repeated")] = None,
    table: Annotated[Path, typer.Option(help="the price table", show_default="the project's own")] = Path(
        __file__
    ).parent
    / "prices.csv",
) -> None:
    """Reads every price of the table, and of what is added, from the AWS Price List, and writes the table anew.

    Needs credentials that may call pricing:GetProducts. Without network, or where a product is not exactly one, says
    so, keeps the table and exits with 1.
    """
    rows = read_prices(table)
    regions, types = {row.region for row in rows}, {row.instance_type for row in rows}
    added, more = set(region or ()), set(instance or ())
    wanted = sorted(
        {(row.region, row.instance_type) for row in rows}
        | {(place, kind) for place in added for kind in types | more}
        | {(place, kind) for place in regions for kind in more}
    )
    config = Config(
        region_name=_REGION,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"total_max_attempts": 2},
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        client = boto3.client("pricing", endpoint_url=_ENDPOINT, config=config)
        found = [
            look_up(client, region=place, instance_type=kind, as_of=today)
            for place, kind in track(wanted, "asking the price list", console=Console(stderr=True), transient=True)
        ]
    except PriceError as error:
        fail(f"{error}; {_KEPT}")
    except (BotoCoreError, ClientError) as error:
        fail(f"the AWS Price List cannot be asked: {error}; {_KEPT}, its newest row of {newest(rows)}")
    write_prices(found, table)
    before = {(row.region, row.instance_type): row.usd_per_hour for row in rows}
    for row in found:
        old = before.get((row.region, row.instance_type))
        if old != row.usd_per_hour:
            print(
                f"{row.region} {row.instance_type}: {'new' if old is None else old} -> {row.usd_per_hour:g} $ an hour"
            )
    print(f"{len(found)} prices as of {today} in {table.name}")


def newest(rows: Sequence[Price]) -> str:
    """The latest day on which a row was written; "never" without rows."""
    return max((row.as_of for row in rows), default="never")


def look_up(client: "PricingClient", *, region: str, instance_type: str, as_of: str) -> Price:
    """The on-demand price of real-time hosting, from the price list.

    Raises PriceError unless exactly one product with one price matches; it names what does. Errors of the client pass
    through.
    """
    pages = client.get_paginator("get_products").paginate(
        ServiceCode=_SERVICE,
        Filters=[
            {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
            {"Type": "TERM_MATCH", "Field": "instanceName", "Value": instance_type},
            {"Type": "TERM_MATCH", "Field": "platoinstancetype", "Value": "Hosting"},
        ],
    )
    products: list[dict[str, Any]] = [json.loads(product) for page in pages for product in page["PriceList"]]
    if len(products) != 1:
        candidates = ", ".join(sorted(_describe(product) for product in products))
        raise PriceError(
            f"{len(products)} products of {_SERVICE} host {instance_type} in {region}, exactly one is needed"
            + (f": {candidates}" if candidates else "; is the type hosted in that region?")
        )
    (product,) = products
    prices = [
        dimension["pricePerUnit"]["USD"]
        for term in product.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension["unit"] in ("Hrs", "Hours", "hours") and "USD" in dimension["pricePerUnit"]
    ]
    if len(prices) != 1 or not float(prices[0]) > 0:
        raise PriceError(f"{_describe(product)} has the prices {prices} in US dollars an hour: one above 0 is needed")
    usage = product["product"]["attributes"].get("usagetype", "")
    return Price(region, instance_type, float(prices[0]), as_of, f"AWS Price List, {_SERVICE}, usage type {usage}")


def _describe(product: dict[str, Any]) -> str:
    found = product["product"]
    return f"{found['attributes'].get('usagetype', 'no usage type')} (SKU {found['sku']})"
