"""The one price table: real-time hosting, on demand, US dollars an hour."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_TABLE = Path(__file__).parent / "prices.csv"


class PriceError(LookupError):
    """A price is not in the table, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Price:
    """usd_per_hour of one instance; as_of is the day the row was written, source where it comes from."""

    region: str
    instance_type: str
    usd_per_hour: float
    as_of: str
    source: str


def priced_types(region: str, table: Path = _TABLE) -> list[str]:
    """Instance types with a price in a region, in the table's order; raises PriceError for none."""
    found = [row.instance_type for row in read_prices(table) if row.region == region]
    if not found:
        known = ", ".join(sorted({row.region for row in read_prices(table)}))
        raise PriceError(f"no prices for region {region!r} in {table.name}; it has {known}")
    return found


def price(region: str, instance_type: str, table: Path = _TABLE) -> Price:
    """The one row for a region and instance type; raises PriceError for none and for several."""
    rows = read_prices(table)
    found = [row for row in rows if (row.region, row.instance_type) == (region, instance_type)]
    if len(found) != 1:
        known = ", ".join(sorted({row.instance_type for row in rows if row.region == region})) or "nothing"
        raise PriceError(
            f"{len(found)} prices for {instance_type} in {region}: exactly one is needed in {table.name}; "
            f"{region} has {known}"
        )
    return found[0]


def write_prices(prices: Iterable[Price], table: Path = _TABLE) -> None:
    """Replaces the table in one step: by region, family, price and name, whatever the order given."""
    ordered = sorted(prices, key=lambda row: (row.region, _family(row), row.usd_per_hour, row.instance_type))
    partial = table.with_name(f".{table.name}.partial")
    with partial.open("w", newline="") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Price)], lineterminator="\n")
        rows.writeheader()
        rows.writerows({**asdict(row), "usd_per_hour": f"{row.usd_per_hour:.10g}"} for row in ordered)
    partial.replace(table)


def usd_per_million(usd_per_hour: float, queries_per_second: float, *, utilisation: float = 1.0) -> float:
    """Cost of a million inferences: hours for a million times the price.

    queries_per_second: what the instance sustains. utilisation: share of that which is used, above 0 up to 1; an
    instance that idles half of the time doubles the cost.
    """
    if queries_per_second <= 0:
        raise ValueError(f"queries_per_second is {queries_per_second}: it must be above 0")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is {utilisation}: give a share above 0 and up to 1")
    return 1e6 / (queries_per_second * utilisation) / 3600 * usd_per_hour


def read_prices(table: Path = _TABLE) -> list[Price]:
    """Every row, in the table's order."""
    with table.open(newline="") as file:
        return [
            Price(row["region"], row["instance_type"], float(row["usd_per_hour"]), row["as_of"], row["source"])
            for row in csv.DictReader(file)
        ]


def _family(row: Price) -> str:
    return row.instance_type.split(".")[1] if row.instance_type.count(".") > 1 else ""
