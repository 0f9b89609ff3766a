"""What an endpoint's dashboard shows: all that was published for the multi-model demo, and what that left out."""

from typing import Any

import pytest

import dashboards.neuron_fleet
import dashboards.overview
from dashboards.body import Calculation, DashboardBody, MetricWidget, Source, compose
from dashboards.endpoint import INSTANCES, SERVING, Endpoint, Target, Variant, rows

REGION = "us-east-1"


def endpoint(*, multi_model: bool = True, **changes: Any) -> Endpoint:
    variant = {"name": "AllTraffic", "instance_type": "ml.c5.xlarge", "usd_per_hour": 0.2, **changes}
    return Endpoint(
        name="prod-tabular-small",
        variants=(Variant(**variant),),
        multi_model=multi_model,
        p99_model_latency_ms=50,
        model_loading_wait_ms=900,
        alarms=("arn:aws:cloudwatch:us-east-1:1:alarm:a",),
    )


def graphs(one: Endpoint) -> list[MetricWidget]:
    body = DashboardBody.model_validate(compose(rows(one, REGION)))
    return [widget for widget in body.widgets if isinstance(widget, MetricWidget)]


def graph_of(one: Endpoint, title: str) -> MetricWidget:
    (found,) = [widget for widget in graphs(one) if str(widget.properties.title).endswith(title)]
    return found


def sources(widget: MetricWidget) -> dict[str, str | None]:
    """Metrics of a widget and their statistics."""
    return {one.name: one.rendering.stat for one in widget.properties.series if isinstance(one, Source)}


def test_the_latest_values_are_those_published_and_the_cost() -> None:
    latest = graph_of(endpoint(), "latest values")
    assert latest.properties.view == "singleValue"
    assert sources(latest) == {
        "Invocations": "Sum",
        "ModelLatency": "Average",
        "OverheadLatency": "Average",
        "ModelLoadingTime": "Average",
        "ModelDownloadingTime": "Average",
        "ModelLoadingWaitTime": "Average",
        "ModelUnloadingTime": "Average",
        "LoadedModelCount": "Average",
        "CPUUtilization": "SampleCount",
    }


def test_requests_errors_and_hits_of_the_cache_are_on_one_graph_with_two_axes() -> None:
    shown = graph_of(endpoint(), "requests, errors and cache")
    axes = {one.name: one.rendering.yAxis for one in shown.properties.series if isinstance(one, Source)}
    assert axes == {
        "Invocations": "left",
        "InvocationsPerInstance": "left",
        "ModelCacheHit": "left",
        "Invocation4XXErrors": "right",
        "Invocation5XXErrors": "right",
    }


def test_the_latencies_of_many_models_are_stacked_in_milliseconds() -> None:
    shown = graph_of(endpoint(), "where the time goes").properties
    assert shown.stacked
    drawn = [one for one in shown.series if isinstance(one, Calculation)]
    assert [one.label for one in drawn] == [
        "ModelLoadingTime",
        "ModelDownloadingTime",
        "ModelLoadingWaitTime",
        "ModelUnloadingTime",
        "ModelLatency",
        "OverheadLatency",
    ]
    assert all(one.expression.endswith("/1000") for one in drawn)
    assert not any(one.rendering.visible for one in shown.series if isinstance(one, Source))


def test_percentiles_stand_beside_the_alarms_threshold() -> None:
    latency = graph_of(endpoint(), ": ModelLatency").properties
    assert [one.rendering.stat for one in latency.series if isinstance(one, Source)] == ["p50", "p90", "p99", "Average"]
    assert {line.label: line.value for line in latency.annotations.horizontal} == {
        "alarm: P99": 50,
        "alarm: loading wait": 900,
    }
    overhead = graph_of(endpoint(), "OverheadLatency").properties
    assert [one.rendering.stat for one in overhead.series if isinstance(one, Source)] == ["p50", "p90", "p99"]


def test_capacity_shows_what_runs_what_the_target_asks_for_and_the_bounds() -> None:
    target = Target(metric="InvocationsPerInstance", value=4000, least=2, most=5)
    capacity = graph_of(endpoint(target=target), "capacity").properties
    assert [one.expression for one in capacity.series if isinstance(one, Calculation)] == ["CEIL(asked/4000)"]
    assert [line.value for line in capacity.annotations.horizontal] == [2, 5]
    tracked = graph_of(endpoint(target=target), "what scaling tracks").properties
    assert [line.value for line in tracked.annotations.horizontal] == [4000]


def test_a_target_of_requests_in_flight_has_no_count_of_requests_beside_it() -> None:
    target = Target(metric="ConcurrentRequestsPerModel", value=8, least=1, most=4)
    shown = endpoint(multi_model=False, target=target)
    assert sources(graph_of(shown, "what scaling tracks")) == {"ConcurrentRequestsPerModel": "Maximum"}
    assert sources(graph_of(shown, "capacity")) == {"CPUUtilization": "SampleCount"}


def test_cost_follows_the_instances_that_run_and_is_left_out_without_a_price() -> None:
    cost = graph_of(endpoint(), "cost").properties
    assert [one.expression for one in cost.series if isinstance(one, Calculation)] == [
        "running*0.2",
        "IF(answered>0,1000000*running*0.2/60/answered)",
    ]
    assert not any("cost" in str(widget.properties.title) for widget in graphs(endpoint(usd_per_hour=None)))


def test_a_component_is_measured_by_its_own_name_and_its_instances_by_the_variants() -> None:
    shown = graphs(endpoint(multi_model=False, component="c"))
    dimensions = {
        (one.namespace, one.dimensions)
        for widget in shown
        for one in widget.properties.series
        if isinstance(one, Source)
    }
    assert dimensions == {
        (SERVING, (("InferenceComponentName", "c"),)),
        (INSTANCES, (("EndpointName", "prod-tabular-small"), ("VariantName", "AllTraffic"))),
    }


@pytest.mark.parametrize("multi_model", [True, False])
def test_no_axis_ends_at_a_number_that_somebody_chose(multi_model: bool) -> None:
    for widget in graphs(endpoint(multi_model=multi_model)):
        axes = widget.properties.yAxis
        assert (axes.left.max, axes.right.max) == (None, None)


def test_the_overview_sums_over_all_endpoints_in_expressions_that_stay_short() -> None:
    many = [endpoint()] * 60
    body = DashboardBody.model_validate(compose(dashboards.overview.rows(many, REGION)))
    totals, *_ = [widget for widget in body.widgets if isinstance(widget, MetricWidget)]
    drawn = {
        one.label: one.expression for one in totals.properties.series if isinstance(one, Calculation) and one.visible
    }
    assert drawn == {
        "requests a minute": 'SUM(METRICS("asked"))',
        "answers 5XX a minute": 'SUM(METRICS("broken"))',
        "instances": 'SUM(METRICS("running"))',
        "$ an hour": 'SUM(METRICS("usd"))',
    }
    assert dashboards.overview.rows([], REGION) == []


@pytest.mark.parametrize("target", [60.0, None])
def test_a_fleet_shows_every_neuroncore_and_what_scaling_keeps(target: float | None) -> None:
    fleet = dashboards.neuron_fleet.Fleet(
        name="f",
        namespace="NeuronEncoder",
        cores=range(12),
        target=target,
        group="g",
        load_balancer="app/f/1",
        target_group="targetgroup/f/1",
        usd_per_hour=0.9,
    )
    body = DashboardBody.model_validate(compose(dashboards.neuron_fleet.rows(fleet, REGION)))
    cores, *others = [widget.properties for widget in body.widgets if isinstance(widget, MetricWidget)]
    assert [one.dimensions[-1] for one in cores.series if isinstance(one, Source)] == [
        ("NeuronCore", str(core)) for core in range(12)
    ]
    assert [line.value for line in cores.annotations.horizontal] == ([] if target is None else [60])
    capacity = others[-1]
    assert {one.name for one in capacity.series if isinstance(one, Source)} == {
        "GroupDesiredCapacity",
        "GroupInServiceInstances",
        "HealthyHostCount",
    }
