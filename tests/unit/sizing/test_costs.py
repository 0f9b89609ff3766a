"""Cost of a rate, the published comparison, and from where on a choice pays."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.costs import CostError, Fleet, compare, models_from_which_sharing_pays, pays_from
from sizing.prices import price, usd_per_million
from sizing.profiles import ProfileError, of_workload, read_profiles

FP32 = Fleet(usd_per_hour=0.408, max_rate=13.0, safety=1.0, min_instances=2)
INT8 = Fleet(usd_per_hour=0.408, max_rate=25.56, safety=1.0, min_instances=2)


def test_the_published_comparison_comes_out_of_the_published_figures() -> None:
    rows = compare(
        [
            (each, price("us-east-1", each.instance_type).usd_per_hour)
            for each in of_workload(read_profiles(), "encoder")
        ]
    )
    told = [(row.variant, round(row.p50_ms, 1), round(row.p90_ms, 1), round(row.usd_per_million, 1)) for row in rows]
    assert told == [("fp32", 76.6, 125.3, 9.9), ("fp32", 70.0, 110.8, 8.7), ("int8", 35.7, 48.9, 4.4)]
    assert rows[2].relative / rows[1].relative == pytest.approx(25.56 / 13)


def test_half_the_utilization_costs_twice_as_much() -> None:
    assert usd_per_million(1, 10, utilization=0.5) == 2 * usd_per_million(1, 10)


def test_with_minimum_instances_int8_pays_once_fp32_needs_one_more() -> None:
    assert FP32.usd(25.9) == INT8.usd(25.9)
    assert pays_from(INT8, FP32) == 26.0
    assert INT8.usd(26.1) < FP32.usd(26.1)


def test_a_fixed_cost_moves_the_break_even_up() -> None:
    with_build_fleet = Fleet(usd_per_hour=0.408, max_rate=25.56, safety=1.0, min_instances=2, extra_usd_per_hour=0.5)
    later = pays_from(with_build_fleet, FP32)
    assert later is not None
    assert later > 26


def test_what_is_dearer_for_a_request_never_pays() -> None:
    assert pays_from(FP32, INT8) is None


def test_sharing_pays_from_the_second_model_on_where_models_are_idle() -> None:
    one = Fleet(usd_per_hour=0.2, max_rate=100, min_instances=1)
    shared = Fleet(usd_per_hour=0.35, max_rate=100, min_instances=1)
    assert models_from_which_sharing_pays(shared, one, rate=1) == 2


def test_sharing_does_not_pay_where_it_needs_as_many_dearer_instances() -> None:
    one = Fleet(usd_per_hour=0.2, max_rate=100, safety=1, min_instances=0)
    shared = Fleet(usd_per_hour=0.4, max_rate=100, safety=1, min_instances=0)
    assert models_from_which_sharing_pays(shared, one, rate=100_000, most=100) is None


@settings(derandomize=True)
@given(rate=st.floats(0, 1e5), more=st.floats(0, 1e5), safety=st.floats(0.1, 1), minimum=st.integers(0, 5))
def test_cost_never_falls_with_the_rate_and_the_instances_always_suffice(
    rate: float, more: float, safety: float, minimum: int
) -> None:
    fleet = Fleet(usd_per_hour=0.4, max_rate=25, safety=safety, min_instances=minimum)
    assert fleet.usd(rate) <= fleet.usd(rate + more)
    assert fleet.instances(rate) * fleet.rate_per_instance >= rate * (1 - 1e-6) - 1e-6
    assert fleet.instances(rate) >= minimum


@pytest.mark.parametrize(("field", "value"), [("usd_per_hour", 0), ("max_rate", -1), ("safety", 1.5)])
def test_an_impossible_fleet_is_refused_by_its_field(field: str, value: float) -> None:
    members: dict[str, Any] = {"usd_per_hour": 1.0, "max_rate": 1.0, field: value}
    with pytest.raises(CostError, match=f"{field} is {value}"):
        Fleet(**members)


def profile(**members: Any) -> dict[str, Any]:
    return {
        "workload": "w",
        "variant": "v",
        "instance_type": "ml.c6i.large",
        "quantiles_ms": [[0.5, 10], [0.99, 20]],
        "concurrency": 2,
        "max_rate_per_instance": 90,
        "place": "local",
        "machine": "a laptop",
        "date": "2026-11-21",
        "source": "a test",
        **members,
    }


def write(folder: Path, *profiles: dict[str, Any]) -> Path:
    path = folder / "profiles.json"
    path.write_text(json.dumps({"profiles": profiles}))
    return path


def test_workers_that_share_cores_count_for_fewer(tmp_path: Path) -> None:
    alone = profile(quantiles_ms=[[0.5, 10]], concurrency=4, max_rate_per_instance=100)
    (read,) = read_profiles(write(tmp_path, alone))
    assert read.servers == 1
    assert read.service.mean_ms == pytest.approx(10)


def test_service_times_stretch_to_the_rate_that_is_sustained(tmp_path: Path) -> None:
    (read,) = read_profiles(write(tmp_path, profile(quantiles_ms=[[0.5, 10]], concurrency=1, max_rate_per_instance=50)))
    assert read.service.mean_ms == pytest.approx(20)
    assert read.alone.mean_ms == pytest.approx(10)


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"max_rate_per_instance": 900}, "raise concurrency, or correct the rate"),
        ({"place": "moon"}, "place"),
        ({"quantiles_ms": [[0.9, 10], [0.5, 20]]}, "both increase"),
        ({"instance_type": "c6i.large"}, "instance_type"),
        ({"colour": "red"}, "colour"),
        ({"date": "yesterday"}, "date"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_by_its_field(tmp_path: Path, members: dict[str, Any], part: str) -> None:
    with pytest.raises(ProfileError, match=part):
        read_profiles(write(tmp_path, profile(**members)))


def test_a_workload_without_a_profile_names_those_that_have_one() -> None:
    with pytest.raises(ProfileError, match="there are profiles of encoder, neuron_encoder, saved_model, tabular"):
        of_workload(read_profiles(), "nope")
