"""What tasks of Fargate cost, at one dated price."""

from pathlib import Path

import pytest

from sizing.fargate import Usage, fargate_price
from sizing.prices import PriceError


def test_an_hour_of_a_task_costs_its_vcpus_and_its_memory() -> None:
    usage = Usage.of([3600], vcpus=1, memory_gb=2)
    assert (usage.vcpu_hours, usage.gb_hours) == (1, 2)
    assert usage.usd(fargate_price("us-east-1")) == pytest.approx(0.04048 + 2 * 0.004445)


def test_tasks_add_up() -> None:
    assert Usage.of([60, 120, 180], vcpus=2, memory_gb=4) == Usage(vcpu_hours=0.2, gb_hours=0.4)


def test_a_price_has_its_day_and_its_source() -> None:
    price = fargate_price("us-east-1")
    assert price.as_of == "2026-11-21"
    assert "AWS Fargate pricing" in price.source


def test_a_region_must_be_there_once(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match=r"0 Fargate prices for mars-1.*it has us-east-1"):
        fargate_price("mars-1")
    table = tmp_path / "twice.csv"
    row = "us-east-1,1,1,2026-01-01,a page\n"
    table.write_text(f"region,usd_per_vcpu_hour,usd_per_gb_hour,as_of,source\n{row}{row}")
    with pytest.raises(PriceError, match="2 Fargate prices for us-east-1: exactly one is needed"):
        fargate_price("us-east-1", table)
