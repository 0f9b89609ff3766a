"""The dashboard page: one document, and data as the deployed body asks for it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from dashboards.body import DashboardBody, Row, compose
from dashboards.graphs import calculated, graph, metric
from local_aws.dashboard.page import document, encoded
from local_aws.dashboard.reading import DashboardError, body, draw, names

DIMENSIONS = {"EndpointName": "e", "VariantName": "v"}


@pytest.fixture
def stubbed() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("cloudwatch", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


def shown(*lines: Any) -> DashboardBody:
    rows = [
        Row((("text", {"markdown": "## e"}, 12), ("alarm", {"alarms": ["arn:x:alarm:a", "arn:x:alarm:b"]}, 12))),
        Row((("metric", graph("t", lines, "us-east-1", left="ms", limits=[("limit", 5)]), 24),)),
    ]
    return DashboardBody.model_validate(compose(rows))


def test_the_page_is_one_document_that_asks_nobody_else() -> None:
    text = document()
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:""", text)
    assert "@import" not in text and "url(" not in text
    assert "/*SCRIPT*/" not in text and "uPlot" in text
    assert 'name="viewport"' in text


def test_a_metric_is_read_once_however_often_it_is_drawn_and_expressions_are_evaluated(
    stubbed: tuple[Any, Stubber],
) -> None:
    client, stubber = stubbed
    body = shown(
        metric("AWS/SageMaker", "ModelLatency", DIMENSIONS, "p99", id="us1", hidden=True),
        metric("AWS/SageMaker", "ModelLatency", DIMENSIONS, "p99", "again"),
        calculated("us1/1000", "P99", right=True),
        calculated("MEDIAN(us1)", "no"),
    )
    moments = [datetime.fromtimestamp(seconds, UTC) for seconds in (60, 120)]
    stubber.add_response(
        "get_metric_data",
        {"MetricDataResults": [{"Id": "q0", "Timestamps": moments, "Values": [1000.0, 2500.0]}]},
        {
            "MetricDataQueries": [
                {
                    "Id": "q0",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": "AWS/SageMaker",
                            "MetricName": "ModelLatency",
                            "Dimensions": [{"Name": name, "Value": value} for name, value in DIMENSIONS.items()],
                        },
                        "Period": 60,
                        "Stat": "p99",
                    },
                }
            ],
            "StartTime": ANY,
            "EndTime": ANY,
            "ScanBy": "TimestampAscending",
        },
    )
    stubber.add_response(
        "describe_alarms",
        {"MetricAlarms": [{"AlarmName": "a", "StateValue": "ALARM", "StateReason": "slow"}]},
        {"AlarmNames": ["a", "b"]},
    )
    text, alarms, drawn = (encoded(each) for each in draw(client, body, 15))
    assert text["markdown"] == "## e"
    assert [(alarm["name"], alarm["state"]) for alarm in alarms["alarms"]] == [("a", "ALARM"), ("b", None)]
    again, p99, refused = drawn["lines"]
    assert again["points"] == ((60, 1000.0), (120, 2500.0))
    assert (p99["points"], p99["side"]) == (((60, 1.0), (120, 2.5)), "right")
    assert "MEDIAN with 1 arguments" in refused["note"]
    assert drawn["limits"] == [{"value": 5, "label": "limit", "side": "left"}]
    json.dumps(drawn)


def test_the_overview_comes_first(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    entries = [{"DashboardName": name} for name in ("dev-encoder", "dev-overview", "dev-tabular")]
    stubber.add_response("list_dashboards", {"DashboardEntries": entries}, {})
    assert names(client) == ["dev-overview", "dev-encoder", "dev-tabular"]


def test_a_dashboard_that_is_not_there_is_refused_with_those_that_are(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    stubber.add_client_error("get_dashboard", "ResourceNotFound")
    stubber.add_response("list_dashboards", {"DashboardEntries": [{"DashboardName": "dev-overview"}]}, {})
    with pytest.raises(DashboardError, match="no dashboard 'other'; deployed: dev-overview"):
        body(client, "other")


def test_a_foreign_body_is_refused_with_what_is_not_drawn(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    foreign = {"widgets": [{"type": "log", "x": 0, "y": 0, "width": 6, "height": 6, "properties": {}}]}
    stubber.add_response("get_dashboard", {"DashboardBody": json.dumps(foreign)}, {"DashboardName": "x"})
    with pytest.raises(DashboardError, match="cannot be drawn by this page"):
        body(client, "x")
