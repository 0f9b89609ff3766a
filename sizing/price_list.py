"""Hosting prices from the AWS Price List."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from sizing.prices import Price, PriceError

if TYPE_CHECKING:
    from mypy_boto3_pricing import PricingClient

_SERVICE = "AmazonSageMaker"
_REGION = "us-east-1"
"""The price list has endpoints in a few regions, each with the prices of all (Price List Query API, AWS guide)."""
_ENDPOINT = f"https://api.pricing.{_REGION}.amazonaws.com"
"""Set explicitly, so AWS_ENDPOINT_URL cannot redirect it to the local account, which has no price list."""
_SECONDS = 10


def pricing_client() -> "PricingClient":
    """Return a client of the AWS Price List that fails quickly without a network."""
    config = Config(
        region_name=_REGION,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"total_max_attempts": 2},
    )
    return boto3.client("pricing", endpoint_url=_ENDPOINT, config=config)


def newest(rows: Sequence[Price]) -> str:
    """Return the date of the most recent row, or "never" without rows."""
    return max((row.as_of for row in rows), default="never")


def look_up(client: "PricingClient", *, region: str, instance_type: str, as_of: str) -> Price:
    """Return the on-demand price of real-time hosting, from the price list.

    Raises PriceError unless exactly one product with one price matches; the message names the matches. Errors of the
    client pass through.
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
            f"{len(products)} products of {_SERVICE} host {instance_type} in {region}, but exactly one is needed"
            + (f": {candidates}" if candidates else "; check that this type can be hosted in that region")
        )
    (product,) = products
    prices = [
        dimension["pricePerUnit"]["USD"]
        for term in product.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension["unit"] in ("Hrs", "Hours", "hours") and "USD" in dimension["pricePerUnit"]
    ]
    if len(prices) != 1 or not float(prices[0]) > 0:
        raise PriceError(f"{_describe(product)} has the prices {prices} in US dollars per hour: need one above 0")
    usage = product["product"]["attributes"].get("usagetype", "")
    return Price(region, instance_type, float(prices[0]), as_of, f"AWS Price List, {_SERVICE}, usage type {usage}")


def _describe(product: dict[str, Any]) -> str:
    description = product["product"]
    return f"{description['attributes'].get('usagetype', 'no usage type')} (SKU {description['sku']})"
