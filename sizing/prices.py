"""The one price table: real-time hosting, on demand, US dollars an hour."""

import csv
from dataclasses import dataclass
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
    found = [row.instance_type for row in _rows(table) if row.region == region]
    if not found:
        known = ", ".join(sorted({row.region for row in _rows(table)}))
        raise PriceError(f"no prices for region {region!r} in {table.name}; it has {known}")
    return found


def price(region: str, instance_type: str, table: Path = _TABLE) -> Price:
    """The one row for a region and instance type; raises PriceError for none and for several."""
    rows = _rows(table)
    found = [row for row in rows if (row.region, row.instance_type) == (region, instance_type)]
    if len(found) != 1:
        known = ", ".join(sorted({row.instance_type for row in rows if row.region == region})) or "nothing"
        raise PriceError(
            f"{len(found)} prices for {instance_type} in {region}: exactly one is needed in {table.name}; "
            f"{region} has {known}"
        )
    return found[0]


def usd_per_million(usd_per_hour: float, queries_per_second: float) -> float:
    """Cost of a million inferences on an instance that is always busy: hours for a million times the price."""
    if queries_per_second <= 0:
        raise ValueError(f"queries_per_second is {queries_per_second}: it must be above 0")
    return 1e6 / queries_per_second / 3600 * usd_per_hour


def _rows(table: Path) -> list[Price]:
    with table.open(newline="") as file:
        return [
            Price(row["region"], row["instance_type"], float(row["usd_per_hour"]), row["as_of"], row["source"])
            for row in csv.DictReader(file)
        ]
