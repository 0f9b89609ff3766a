"""The recommended instances keep the P99 at the least cost, and every other candidate is told why it lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commands.main import app
from sizing.autoscaling import Bounds
from sizing.prices import Price
from sizing.profiles import ServiceProfile
from sizing.recommend import Demand, RecommendError, recommend, response_ms
from sizing.recommend import size as size_of
from sizing.simulation.endpoint import Endpoint
from sizing.simulation.events import simulate_events
from sizing.simulation.traffic import constant


def profile(instance_type: str = "ml.c6i.large", **members: Any) -> ServiceProfile:
    given = {
        "workload": "w",
        "variant": "v",
        "instance_type": instance_type,
        "quantiles_ms": ((0.5, 20.0), (0.99, 40.0)),
        "concurrency": 1,
        "max_rate_per_instance": 45.0,
        "place": "local",
        "machine": "m",
        "date": "2026-11-21",
        "source": "s",
        **members,
    }
    return ServiceProfile(**given)


def price(instance_type: str, usd: float) -> Price:
    return Price("us-east-1", instance_type, usd, "2026-11-21", "s")


SMALL, LARGE = profile(), profile("ml.c6i.xlarge", max_rate_per_instance=80.0, concurrency=2)
PRICES = {"ml.c6i.large": price("ml.c6i.large", 0.1), "ml.c6i.xlarge": price("ml.c6i.xlarge", 0.2)}


def test_the_cheapest_that_keeps_the_p99_wins_and_the_other_is_told_its_price() -> None:
    chosen, other = recommend([LARGE, SMALL], PRICES, Demand(rate=100, p99_ms=200))
    assert (chosen.profile, chosen.chosen) == (SMALL, True)
    assert chosen.sized is not None
    assert chosen.sized.instances == 5
    assert chosen.sized.usd_per_hour == pytest.approx(0.5)
    assert other.reason.startswith("costs 1.20 times as much: 3 for the rate")


def test_the_scaling_target_is_maximum_rate_times_safety_times_60() -> None:
    sized = size_of(SMALL, PRICES["ml.c6i.large"], Demand(rate=100, p99_ms=500, safety=0.5))
    assert sized is not None
    assert sized.target == pytest.approx(45 * 0.5 * 60)


def test_a_tight_p99_takes_more_instances_than_the_rate_and_a_lower_target() -> None:
    demand = Demand(rate=100, p99_ms=50)
    sized = size_of(SMALL, PRICES["ml.c6i.large"], demand)
    assert sized is not None
    assert sized.p99_ms <= 50 < response_ms(SMALL, demand, sized.instances - 1, 0.99)
    assert sized.target == pytest.approx(60 * 100 / sized.instances)
    assert "for the P99, 5 for the rate" in sized.bound_by


def test_the_predicted_p99_is_what_a_simulation_of_the_recommendation_finds() -> None:
    sized = size_of(SMALL, PRICES["ml.c6i.large"], Demand(rate=100, p99_ms=100))
    assert sized is not None
    count = sized.instances
    endpoint = Endpoint(
        service=SMALL.service, workers=SMALL.servers, instances=count, bounds=Bounds(count, count)
    )  # fmt: skip
    assert simulate_events(endpoint, constant(100, 1200), seed=1).p99_ms == pytest.approx(sized.p99_ms, rel=0.15)


def test_reasons_name_what_is_in_the_way() -> None:
    slow = profile(variant="slow", quantiles_ms=((0.5, 300.0),), max_rate_per_instance=3.0)
    unpriced = profile("ml.m5.large")
    unfit = profile(variant="unfit")
    verdicts = recommend(
        [slow, unpriced, unfit, SMALL],
        PRICES,
        Demand(rate=10, p99_ms=200),
        lambda each: "holds too few models" if each.variant == "unfit" else None,
    )
    reasons = {(each.profile.variant, each.profile.instance_type): each.reason for each in verdicts[1:]}
    assert reasons["slow", "ml.c6i.large"] == "P99 without any wait is 333.3 ms, over 200"
    assert reasons["v", "ml.m5.large"].startswith("no price for ml.m5.large: add it with `inference prices refresh")
    assert reasons["unfit", "ml.c6i.large"] == "holds too few models"


def test_where_nobody_can_every_reason_is_in_the_error() -> None:
    with pytest.raises(RecommendError, match=r"no candidate serves 10/s within 5 ms: v on .*P99 without any wait"):
        recommend([SMALL, LARGE], PRICES, Demand(rate=10, p99_ms=5))


@pytest.mark.parametrize(("field", "value"), [("rate", 0), ("p99_ms", -1), ("safety", 0), ("min_instances", 0)])
def test_an_impossible_demand_is_refused_by_its_field(field: str, value: float) -> None:
    members: dict[str, Any] = {"rate": 1.0, "p99_ms": 100.0, field: value}
    with pytest.raises(RecommendError, match=f"{field} is {value}"):
        Demand(**members)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(rate=st.floats(0.1, 2000), more=st.floats(1, 5), p99=st.floats(60, 2000))
def test_cost_never_falls_with_the_rate_or_with_a_tighter_p99(rate: float, more: float, p99: float) -> None:
    def cost(wanted: float, limit: float) -> float:
        sized = size_of(SMALL, PRICES["ml.c6i.large"], Demand(rate=wanted, p99_ms=limit))
        assert sized is not None
        return sized.usd_per_hour

    assert cost(rate, p99) <= cost(rate * more, p99)
    assert cost(rate, p99 * more) <= cost(rate, p99)


def run(output: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["size", *arguments, "--output", str(output)])
    return done.exit_code, " ".join(done.stdout.split()), done.stderr


def test_int8_is_recommended_over_fp32_with_its_break_even(tmp_path: Path) -> None:
    code, told, _ = run(tmp_path, "encoder", "--rate", "50", "--p99", "400", "--min-instances", "2")
    assert code == 0
    assert "real-time, 4 x ml.c6i.2xlarge with int8" in told
    assert "int8 over fp32 on ml.c6i.2xlarge pays off from 13.0 requests/s, with a minimum of 2" in told
    assert "These figures are published" in told
    found = json.loads((tmp_path / "encoder/size.json").read_text())
    assert found["settings"]["scaling"]["target_invocations_per_instance"] == pytest.approx(25.56 * 30, abs=0.1)
    assert [each["chosen"] for each in found["candidates"]] == [True, False, False]
    assert all(each["reason"] for each in found["candidates"])
    assert (tmp_path / "encoder/hosting.png").read_bytes().startswith(b"\x89PNG")


def test_an_idle_workload_goes_serverless(tmp_path: Path) -> None:
    code, told, _ = run(tmp_path, "encoder", "--rate", "0.1", "--p99", "15000", "--idle-share", "0.9")
    assert code == 0
    assert "serverless with int8" in told
    assert "MaxConcurrency: 1" in told


def test_churn_is_sized_by_its_working_set_and_its_rate(tmp_path: Path) -> None:
    code, told, _ = run(tmp_path, "tabular", "--rate", "300", "--p99", "50")
    assert code == 0
    found = json.loads((tmp_path / "tabular/size.json").read_text())
    assert found["candidates"][1]["reason"] == "holds 31 models: a hit rate of 60.8%, 99.0% wanted"
    assert "multi-model, 2 x ml.c5.2xlarge" in told
    assert "51 models on one multi-model endpoint cost $0.816 per hour, on separate endpoints $20.808" in told


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("saved_model", "--rate", "0", "--p99", "100"), "rate is 0"),
        (("saved_model", "--rate", "10", "--p99", "1"), "no candidate serves 10/s within 1 ms"),
        (("saved_model", "--rate", "10", "--p99", "100", "--routing", "x"), "routing is 'x'"),
        (("saved_model", "--rate", "10", "--p99", "100", "--idle-share", "1"), "idle_share is 1"),
        (("saved_model", "--rate", "10", "--p99", "100", "--region", "mars-1"), "no prices for region 'mars-1'"),
        (("tabular", "--rate", "0", "--p99", "100"), "rate is 0"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], part: str) -> None:
    code, _, told = run(tmp_path, *arguments)
    assert code == 1
    assert part in told
    assert "Traceback" not in told
