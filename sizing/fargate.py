"""Cost of Fargate tasks: vCPU hours and GB hours, at the prices in a dated table."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sizing.prices import PriceError

_TABLE = Path(__file__).parent / "fargate_prices.csv"


@dataclass(frozen=True, slots=True)
class FargatePrice:
    """Prices in US dollars of Linux tasks on x86, on demand.

    as_of: date on which the row was written.
    source: where the prices come from.
    """

    region: str
    usd_per_vcpu_hour: float
    usd_per_gb_hour: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Resource usage of tasks, in vCPU hours and GB hours."""

    vcpu_hours: float
    gb_hours: float

    @classmethod
    def of(cls, seconds: Iterable[float], *, vcpus: float, memory_gb: float) -> "Usage":
        """Create from the billed seconds of tasks of one size."""
        hours = sum(seconds) / 3600
        return cls(vcpu_hours=hours * vcpus, gb_hours=hours * memory_gb)

    def usd(self, price: FargatePrice) -> float:
        """Return the on-demand cost in US dollars."""
        return self.vcpu_hours * price.usd_per_vcpu_hour + self.gb_hours * price.usd_per_gb_hour


def fargate_price(region: str, table: Path = _TABLE) -> FargatePrice:
    """Return the only row for a region; raises PriceError for none or several."""
    with table.open(newline="") as file:
        rows = [
            FargatePrice(
                row["region"],
                float(row["usd_per_vcpu_hour"]),
                float(row["usd_per_gb_hour"]),
                row["as_of"],
                row["source"],
            )
            for row in csv.DictReader(file)
        ]
    matches = [row for row in rows if row.region == region]
    if len(matches) != 1:
        known = ", ".join(row.region for row in rows)
        raise PriceError(
            f"{len(matches)} Fargate prices for {region}: exactly one is needed in {table.name}; it has {known}"
        )
    return matches[0]
