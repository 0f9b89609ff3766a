"""The price table: real-time hosting, on demand, in US dollars per hour."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

TABLE = Path(__file__).parent / "prices.csv"
DEFAULT_REGION = "us-east-1"
"""Region whose prices apply to a deployment that sets none."""


class PriceError(LookupError):
    """A price is missing from the table, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Price:
    """Hourly price of one instance.

    as_of: date on which the row was written.
    source: where the price comes from.
    """

    region: str
    instance_type: str
    usd_per_hour: float
    as_of: str
    source: str


def priced_types(region: str, table: Path = TABLE) -> list[str]:
    """Return the instance types with a price in a region, in the table's order; raises PriceError if there are none."""
    types = [row.instance_type for row in read_prices(table) if row.region == region]
    if not types:
        known = ", ".join(sorted({row.region for row in read_prices(table)}))
        raise PriceError(f"no prices for region {region!r} in {table.name}; it has {known}")
    return types


def price(region: str, instance_type: str, table: Path = TABLE) -> Price:
    """Return the only row for a region and instance type; raises PriceError for none or several."""
    rows = read_prices(table)
    matches = [row for row in rows if (row.region, row.instance_type) == (region, instance_type)]
    if len(matches) != 1:
        known = ", ".join(sorted({row.instance_type for row in rows if row.region == region})) or "nothing"
        raise PriceError(
            f"{len(matches)} prices for {instance_type} in {region}: exactly one is needed in {table.name}; "
            f"{region} has {known}"
        )
    return matches[0]


def write_prices(prices: Iterable[Price], table: Path = TABLE) -> None:
    """Replace the table atomically, sorted by region, family, price and name."""
    ordered = sorted(prices, key=lambda row: (row.region, _family(row), row.usd_per_hour, row.instance_type))
    partial = table.with_name(f".{table.name}.partial")
    with partial.open("w", newline="") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Price)], lineterminator="\n")
        rows.writeheader()
        rows.writerows({**asdict(row), "usd_per_hour": f"{row.usd_per_hour:.10g}"} for row in ordered)
    partial.replace(table)


def usd_per_million(usd_per_hour: float, queries_per_second: float, *, utilization: float = 1.0) -> float:
    """Return the cost of a million inferences: hours for a million times the hourly price.

    queries_per_second: rate that the instance sustains.
    utilization: fraction of that rate in use, above 0 up to 1; an instance that idles half of the time doubles the
        cost.
    """
    if queries_per_second <= 0:
        raise ValueError(f"queries_per_second is {queries_per_second}: it must be above 0")
    if not 0 < utilization <= 1:
        raise ValueError(f"utilization is {utilization}: give a fraction above 0 and up to 1")
    return 1e6 / (queries_per_second * utilization) / 3600 * usd_per_hour


def read_prices(table: Path = TABLE) -> list[Price]:
    """Return every row, in the table's order."""
    with table.open(newline="") as file:
        return [
            Price(row["region"], row["instance_type"], float(row["usd_per_hour"]), row["as_of"], row["source"])
            for row in csv.DictReader(file)
        ]


def _family(row: Price) -> str:
    return row.instance_type.split(".")[1] if row.instance_type.count(".") > 1 else ""


def usd_per_hour(region: str | None, instance_type: str) -> float | None:
    """Return the hourly price of an instance in US dollars, or None if the table does not have it."""
    try:
        return price(region or DEFAULT_REGION, instance_type).usd_per_hour
    except PriceError:
        return None
