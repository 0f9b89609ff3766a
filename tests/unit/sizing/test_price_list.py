"""Prices from the AWS Price List: exactly one product, or an error and an untouched table."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from commands.main import app
from sizing import price_list
from sizing.price_list import look_up
from sizing.prices import Price, PriceError, read_prices, write_prices

FILTERS = [
    {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"},
    {"Type": "TERM_MATCH", "Field": "instanceName", "Value": "ml.c6i.large"},
    {"Type": "TERM_MATCH", "Field": "platoinstancetype", "Value": "Hosting"},
]
HEADER = "region,instance_type,usd_per_hour,as_of,source\n"


def product(usage: str = "USE1-Host:ml.c6i.large", sku: str = "SKU1", **prices: str) -> str:
    return json.dumps(
        {
            "product": {"sku": sku, "attributes": {"usagetype": usage}},
            "terms": {
                "OnDemand": {
                    "term": {
                        "priceDimensions": {
                            rate: {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
                            for rate, usd in (prices or {"rate": "0.1020000000"}).items()
                        }
                    }
                }
            },
        }
    )


def client(*pages: list[str]) -> Any:
    made = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stubber = Stubber(made)
    for number, page in enumerate(pages):
        wanted: dict[str, Any] = {"ServiceCode": "AmazonSageMaker", "Filters": FILTERS}
        answer: dict[str, Any] = {"PriceList": page}
        if number:
            wanted["NextToken"] = f"page {number}"
        if number + 1 < len(pages):
            answer["NextToken"] = f"page {number + 1}"
        stubber.add_response("get_products", answer, wanted)
    stubber.activate()
    return made


def ask(made: Any) -> Price:
    return look_up(made, region="us-east-1", instance_type="ml.c6i.large", as_of="2026-11-21")


def test_the_one_product_gives_the_price_with_its_source() -> None:
    assert ask(client([product()])) == Price(
        "us-east-1", "ml.c6i.large", 0.102, "2026-11-21",
        "AWS Price List, AmazonSageMaker, usage type USE1-Host:ml.c6i.large",
    )  # fmt: skip


def test_a_product_on_a_later_page_is_found() -> None:
    assert ask(client([], [product()])).usd_per_hour == 0.102


def test_several_products_are_an_error_that_names_them() -> None:
    with pytest.raises(PriceError, match=r"2 products .* USE1-AsyncInf:ml.c6i.large \(SKU SKU2\), USE1-Host:"):
        ask(client([product()], [product("USE1-AsyncInf:ml.c6i.large", "SKU2")]))


def test_no_product_is_an_error() -> None:
    with pytest.raises(PriceError, match=r"0 products of AmazonSageMaker host ml\.c6i\.large in us-east-1"):
        ask(client([]))


@pytest.mark.parametrize("prices", [{"a": "0.1", "b": "0.2"}, {"a": "0"}])
def test_a_product_with_no_price_or_several_is_an_error(prices: dict[str, str]) -> None:
    with pytest.raises(PriceError, match="need one above 0"):
        ask(client([product(**prices)]))


def test_the_table_is_written_alike_whatever_the_order(tmp_path: Path) -> None:
    rows = [
        Price("us-east-1", "ml.c6i.2xlarge", 0.408, "2026-11-21", "s"),
        Price("eu-west-1", "ml.c5.large", 0.115, "2026-11-21", "s, with a comma"),
        Price("us-east-1", "ml.c6i.large", 0.102, "2026-11-21", "s"),
    ]
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    write_prices(rows, one)
    write_prices(reversed(rows), other)
    assert one.read_bytes() == other.read_bytes()
    assert [row.instance_type for row in read_prices(one)] == ["ml.c5.large", "ml.c6i.large", "ml.c6i.2xlarge"]
    assert read_prices(one)[0] == rows[1]


def test_the_recorded_table_is_as_a_refresh_would_write_it(tmp_path: Path) -> None:
    recorded = Path(price_list.__file__).parent / "prices.csv"
    again = tmp_path / "prices.csv"
    write_prices(read_prices(recorded), again)
    assert again.read_text() == recorded.read_text()


def answering(monkeypatch: pytest.MonkeyPatch, page: list[str]) -> None:
    made = client(page)
    monkeypatch.setattr(boto3, "client", lambda *_, **__: made)


def refresh(table: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["prices", "refresh", "--table", str(table), *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + "us-east-1,ml.c6i.large,0.1,2026-01-01,somewhere\n")
    return path


def test_a_refresh_says_what_changed(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [product()])
    code, told, _ = refresh(table)
    assert code == 0
    assert "us-east-1 ml.c6i.large: 0.1 -> 0.102 $ an hour" in told
    (row,) = read_prices(table)
    assert (row.usd_per_hour, row.source.split(",")[0]) == (0.102, "AWS Price List")


def test_without_network_the_table_is_kept_and_the_exit_code_says_so(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    # No proxy listens there, so that nothing leaves the machine.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    before = table.read_text()
    code, _, told = refresh(table)
    assert code == 1
    assert "error: the AWS Price List cannot be read" in told
    assert "the table is kept as it was, its newest row of 2026-01-01" in told
    assert table.read_text() == before


def test_one_price_that_is_not_found_keeps_the_whole_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [])
    before = table.read_text()
    code, _, told = refresh(table)
    assert (code, table.read_text()) == (1, before)
    assert "exactly one is needed" in told
