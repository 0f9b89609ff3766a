"""A dashboard's body is what CloudWatch takes: checked as it is made, and refused with what is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from dashboards.body import Calculation, DashboardBody, MetricWidget, Row, Source, compose, referenced
from dashboards.graphs import calculated, graph, metric, numbers

LINE = metric("AWS/SageMaker", "Invocations", {"EndpointName": "e", "VariantName": "v"}, "Sum", id="asked")


def widget(**changes: Any) -> dict[str, Any]:
    properties = {"metrics": [LINE], "region": "us-east-1"} | changes.pop("properties", {})
    return {"type": "metric", "x": 0, "y": 0, "width": 12, "height": 6, "properties": properties, **changes}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (widget(x=20), "reach over the 24 columns"),
        (widget(x=24), "less than 24"),
        (widget(height=0), "greater than or equal to 1"),
        (widget(type="graph"), "'metric', 'text', 'alarm'"),
        (widget(properties={"metrics": []}), "at least 1 item"),
        (widget(properties={"metrics": [LINE] * 501}), "at most 500 items"),
        (widget(properties={"metrics": [["AWS/SageMaker"]]}), "give namespace, name, and pairs"),
        (widget(properties={"metrics": [["AWS/SageMaker", "A", "EndpointName"]]}), "give namespace, name, and pairs"),
        (widget(properties={"metrics": [["...", "w"]]}), "repeats the metric before, which has 0 names"),
        (widget(properties={"metrics": [LINE, [*"......", ".", "w"]]}), "repeats a name of the metric before"),
        (widget(properties={"metrics": [LINE, [".", "..."]]}), "repeats a name of the metric before"),
        (widget(properties={"metrics": [LINE, [".", 5, {}]]}), "names are text"),
        (widget(properties={"metrics": [LINE, LINE]}), "the id asked is given twice"),
        (widget(properties={"metrics": [LINE, calculated("2*answered", "x")]}), "names answered, which is no id"),
        (widget(properties={"stat": "Mean"}), "'Mean' is no statistic"),
        (widget(properties={"view": "line"}), "timeSeries"),
        (widget(properties={"colour": "red"}), "Extra inputs"),
        (widget(properties={"yAxis": {"top": {}}}), "Extra inputs"),
        (widget(properties={"annotations": {"horizontal": [{"label": "x"}]}}), "Field required"),
        ({**widget(), "type": "alarm", "properties": {"alarms": []}}, "at least 1 item"),
    ],
)
def test_what_cloudwatch_refuses_is_refused_with_the_reason(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DashboardBody.model_validate({"widgets": [wrong]})
    assert message in str(refused.value)


def test_shorthands_stand_for_the_names_of_the_metric_before() -> None:
    # The example of "Dashboard body structure and syntax".
    metrics = [
        ["AWS/EC2", "CPUUtilization", "InstanceId", "i-1"],
        [".", "NetworkIn", ".", "."],
        [{"expression": "1", "id": "e"}],
        ["...", "i-2", {"stat": "Sum"}],
        [".", ".", "ImageId", "a", "Type", "b"],
        ["..."],
    ]
    read = DashboardBody.model_validate({"widgets": [widget(properties={"metrics": metrics})]}).widgets[0]
    assert isinstance(read, MetricWidget)
    sources = [each for each in read.properties.series if isinstance(each, Source)]
    assert [(each.namespace, each.name, dict(each.dimensions)) for each in sources] == [
        ("AWS/EC2", "CPUUtilization", {"InstanceId": "i-1"}),
        ("AWS/EC2", "NetworkIn", {"InstanceId": "i-1"}),
        ("AWS/EC2", "NetworkIn", {"InstanceId": "i-2"}),
        ("AWS/EC2", "NetworkIn", {"ImageId": "a", "Type": "b"}),
        ("AWS/EC2", "NetworkIn", {"ImageId": "a", "Type": "b"}),
    ]


def test_limits_of_a_whole_dashboard_hold() -> None:
    with pytest.raises(ValidationError, match="at most 500 items"):
        DashboardBody.model_validate({"widgets": [widget()] * 501})
    many = [metric("N", f"m{number}", {}, "Sum") for number in range(500)]
    with pytest.raises(ValidationError, match="3000 metrics are on the dashboard: CloudWatch shows 2500"):
        DashboardBody.model_validate({"widgets": [widget(properties={"metrics": many})] * 6})
    long = Row((("text", {"markdown": "x" * 1_000_001}, 24),))
    with pytest.raises(ValueError, match="1000000 are possible; show fewer endpoints"):
        compose([long])


def test_rows_stand_one_below_the_other_and_their_widgets_side_by_side() -> None:
    text: tuple[Any, ...] = ("text", {"markdown": "x"}, 8)
    body = compose([Row((text, text), height=3), Row((text, text, text)), Row((("alarm", {"alarms": ["a"]}, 24),))])
    places = [(each["x"], each["y"], each["width"], each["height"]) for each in body["widgets"]]
    assert places == [(0, 0, 8, 3), (8, 0, 8, 3), (0, 3, 8, 6), (8, 3, 8, 6), (16, 3, 8, 6), (0, 9, 24, 6)]


def test_what_is_drawn_can_be_read_back() -> None:
    made = graph("t", [LINE, calculated("asked/60", "a second", right=True)], "eu-west-1", left="n", limits=[("l", 2)])
    body = DashboardBody.model_validate(compose([Row((("metric", made, 24),))]))
    (shown,) = body.widgets
    assert isinstance(shown, MetricWidget)
    source, calculation = shown.properties.series
    assert isinstance(source, Source)
    assert source.dimensions == (("EndpointName", "e"), ("VariantName", "v"))
    assert (source.rendering.stat, source.rendering.label) == ("Sum", "Invocations")
    assert isinstance(calculation, Calculation)
    assert (calculation.expression, calculation.yAxis) == ("asked/60", "right")


def test_numbers_are_single_values() -> None:
    assert numbers("t", [LINE], "r")["view"] == "singleValue"


def test_functions_and_quoted_parts_of_names_are_no_ids() -> None:
    assert referenced('IF(asked>0,100*bad/asked)+SUM(METRICS("usd"))') == {"asked", "bad"}
