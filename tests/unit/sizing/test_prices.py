"""A price is exact or an error; cost follows from rate."""

from pathlib import Path

import pytest

from sizing.prices import PriceError, price, usd_per_million

HEADER = "region,instance_type,usd_per_hour,as_of,source\n"


def test_the_published_cost_follows_from_the_published_rate() -> None:
    assert usd_per_million(price("us-east-1", "ml.c6i.2xlarge").usd_per_hour, 25.56) == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(("rows", "count"), [("", 0), ("r,t,1,d,s\nr,t,2,d,s\n", 2)])
def test_none_and_several_prices_are_errors(tmp_path: Path, rows: str, count: int) -> None:
    table = tmp_path / "prices.csv"
    table.write_text(HEADER + rows)
    with pytest.raises(PriceError, match=f"{count} prices for t in r"):
        price("r", "t", table)


def test_a_rate_of_zero_has_no_cost() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        usd_per_million(1, 0)
