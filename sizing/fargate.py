"""What tasks of Fargate cost: vCPU hours and GB hours at the prices of one dated table."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sizing.prices import PriceError

_TABLE = Path(__file__).parent / "fargate_prices.csv"


@dataclass(frozen=True, slots=True)
class FargatePrice:
    """US dollars of Linux tasks on x86, on demand; as_of is the day the row was written, source where it is from."""

    region: str
    usd_per_vcpu_hour: float
    usd_per_gb_hour: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What tasks took: hours of vCPUs and of gigabytes."""

    vcpu_hours: float
    gb_hours: float

    @classmethod
    def of(cls, seconds: Iterable[float], *, vcpus: float, memory_gb: float) -> "Usage":
        """Of tasks of one size, by the seconds that each is billed for."""
        hours = sum(seconds) / 3600
        return cls(vcpu_hours=hours * vcpus, gb_hours=hours * memory_gb)

    def usd(self, price: FargatePrice) -> float:
        """Cost on demand."""
        return self.vcpu_hours * price.usd_per_vcpu_hour + self.gb_hours * price.usd_per_gb_hour


def fargate_price(region: str, table: Path = _TABLE) -> FargatePrice:
    """The one row of a region; raises PriceError for none and for several."""
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
    found = [row for row in rows if row.region == region]
    if len(found) != 1:
        known = ", ".join(row.region for row in rows)
        raise PriceError(
            f"{len(found)} prices of Fargate in {region}: exactly one is needed in {table.name}; it has {known}"
        )
    return found[0]
