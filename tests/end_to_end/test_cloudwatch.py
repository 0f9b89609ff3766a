"""CloudWatch in the local account: what its clients ask for is computed, or refused with AWS's error."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.account import LocalAccount
from tests.local_account import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
NOW = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
MINUTES = [NOW - datetime.timedelta(minutes=minutes) for minutes in (3, 2, 1)]
ON = [{"Name": "EndpointName", "Value": "e"}]


@pytest.fixture(scope="module", autouse=True)
def cloudwatch(account: LocalAccount) -> Iterator[Any]:  # noqa: ARG001 - needs a running account
    client: Any = boto3.client("cloudwatch")
    for number, moment in enumerate(MINUTES, 1):
        values = [float(number * value) for value in range(1, 11)]
        data = {"MetricName": "latency", "Dimensions": ON, "Timestamp": moment, "Values": values, "Counts": [1.0] * 10}
        client.put_metric_data(Namespace="Test", MetricData=[data])
    yield client


def metric(id: str, stat: str = "Average", **more: Any) -> dict[str, Any]:
    of = {"Namespace": "Test", "MetricName": "latency", "Dimensions": ON}
    return {"Id": id, "MetricStat": {"Metric": of, "Period": 60, "Stat": stat}, **more}


def data(cloudwatch: Any, *queries: dict[str, Any], **more: Any) -> dict[str, Any]:
    window = {"StartTime": MINUTES[0], "EndTime": NOW}
    answer: dict[str, Any] = cloudwatch.get_metric_data(MetricDataQueries=list(queries), **{**window, **more})
    return answer


def test_metric_math_is_evaluated_also_over_what_stands_after_it(cloudwatch: Any) -> None:
    expressions = {"ms": "us/1000", "twice": "ms*2", "sum": "SUM(METRICS())", "filled": "FILL(us, 0)"}
    queries = [{"Id": id, "Expression": text} for id, text in expressions.items()]
    answer = data(cloudwatch, *queries, metric("us", ReturnData=False), ScanBy="TimestampAscending")
    values = {each["Id"]: each["Values"] for each in answer["MetricDataResults"]}
    average = [5.5, 11.0, 16.5]
    assert values["ms"] == pytest.approx([value / 1000 for value in average])
    assert values["twice"] == pytest.approx([value / 500 for value in average])
    assert values["sum"] == values["filled"] == average
    assert "us" not in values
    assert {each["StatusCode"] for each in answer["MetricDataResults"]} == {"Complete"}


def test_the_newest_value_comes_first_unless_asked_otherwise(cloudwatch: Any) -> None:
    (newest,) = data(cloudwatch, metric("m"))["MetricDataResults"]
    (oldest,) = data(cloudwatch, metric("m"), ScanBy="TimestampAscending")["MetricDataResults"]
    assert newest["Timestamps"] == MINUTES[::-1]
    assert oldest["Timestamps"] == MINUTES
    assert newest["Label"] == "latency"


def test_most_datapoints_are_kept_and_the_rest_follows(cloudwatch: Any) -> None:
    queries = [metric("a"), metric("b", "Maximum")]
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, StartTime=MINUTES[0], EndTime=NOW, MaxDatapoints=2
    )
    found: dict[str, list[float]] = {"a": [], "b": []}
    sizes = []
    for page in pages:
        sizes.append(sum(len(each["Values"]) for each in page["MetricDataResults"]))
        for each in page["MetricDataResults"]:
            found[each["Id"]] += each["Values"]
    assert sizes == [2, 2, 2]
    assert found == {"a": [16.5, 11.0, 5.5], "b": [30.0, 20.0, 10.0]}


@pytest.mark.parametrize(
    ("stat", "value"), [("tm90", 5.0), ("IQM", 5.5), ("TC(2:8)", 6.0), ("PR(:5)", 50.0), ("p50", 5.5), ("Sum", 55.0)]
)
def test_every_statistic_is_computed(cloudwatch: Any, stat: str, value: float) -> None:
    (found,) = data(cloudwatch, metric("m", stat), EndTime=MINUTES[1])["MetricDataResults"]
    assert found["Values"] == pytest.approx([value])


@pytest.mark.parametrize(
    ("queries", "more", "message"),
    [
        ([metric("m", "p101")], {}, "p101"),
        ([metric("m", "Median")], {}, "Median"),
        ([metric("m"), metric("m")], {}, "not unique"),
        ([metric("M")], {}, "pattern"),
        ([{"Id": "e", "Expression": "nobody*2"}], {}, "nobody"),
        ([{"Id": "e", "Expression": "f+1"}, {"Id": "f", "Expression": "e+1"}], {}, "refer to each other"),
        ([{**metric("m"), "Expression": "1"}], {}, "Exactly one"),
        ([metric("m")], {"StartTime": NOW, "EndTime": NOW}, "StartTime must be less"),
        ([metric("m")], {"NextToken": "?"}, "next token"),
    ],
)
def test_a_query_that_cloudwatch_refuses_is_refused(
    cloudwatch: Any, queries: list[Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError, match=message) as raised:
        data(cloudwatch, *queries, **more)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


ALARM = {
    "AlarmName": "a", "Namespace": "Test", "MetricName": "latency", "Dimensions": ON, "Period": 60,
    "EvaluationPeriods": 1, "Threshold": 1e9, "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Statistic": "Average", "Period": 45}, "Period"),
        ({"ExtendedStatistic": "nonsense"}, "nonsense"),
        ({"Statistic": "Average", "ExtendedStatistic": "p99"}, "Exactly one"),
        ({}, "Exactly one"),
        ({"Statistic": "Average", "DatapointsToAlarm": 2}, "DatapointsToAlarm"),
        ({"Metrics": [{"Id": "e", "Expression": "1"}]}, "metric math"),
    ],
)
def test_an_alarm_that_cannot_be_is_refused(cloudwatch: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        cloudwatch.put_metric_alarm(**{**ALARM, **changes})


def test_an_alarm_of_a_template_is_held_to_the_same_rules(cloudwatch: Any) -> None:
    del cloudwatch
    cloudformation = boto3.client("cloudformation")
    properties = {**ALARM, "ExtendedStatistic": "nonsense"}
    template = {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}}
    cloudformation.create_stack(StackName="Alarm", TemplateBody=json.dumps(template))

    def status() -> str:
        return str(cloudformation.describe_stacks(StackName="Alarm")["Stacks"][0]["StackStatus"])

    wait_until(lambda: status() == "ROLLBACK_COMPLETE", 30, "the rollback")
    events = cloudformation.describe_stack_events(StackName="Alarm")["StackEvents"]
    assert any("nonsense" in event.get("ResourceStatusReason", "") for event in events)
    cloudformation.delete_stack(StackName="Alarm")


def test_alarms_for_a_metric_are_those_on_its_dimensions_and_name_one_statistic(cloudwatch: Any) -> None:
    cloudwatch.put_metric_alarm(**ALARM, ExtendedStatistic="p99")
    other = [{"Name": "EndpointName", "Value": "other"}]
    cloudwatch.put_metric_alarm(**{**ALARM, "AlarmName": "b", "Dimensions": other}, Statistic="Average")
    found = cloudwatch.describe_alarms_for_metric(Namespace="Test", MetricName="latency", Dimensions=ON)
    assert [alarm["AlarmName"] for alarm in found["MetricAlarms"]] == ["a"]
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["a"])["MetricAlarms"]
    assert alarm["ExtendedStatistic"] == "p99"
    assert "Statistic" not in alarm
    cloudwatch.delete_alarms(AlarmNames=["a", "b"])


def test_dashboards_are_json_with_widgets_and_listed_with_their_time(cloudwatch: Any) -> None:
    for body in ("not json", "[]", '{"widgets": {}}'):
        with pytest.raises(ClientError, match="dashboard body"):
            cloudwatch.put_dashboard(DashboardName="d", DashboardBody=body)
    cloudwatch.put_dashboard(DashboardName="d", DashboardBody=json.dumps({"widgets": []}))
    (entry,) = cloudwatch.list_dashboards(DashboardNamePrefix="d")["DashboardEntries"]
    assert abs((entry["LastModified"] - datetime.datetime.now(datetime.UTC)).total_seconds()) < 300
    assert entry["Size"] == len('{"widgets": []}')
    cloudwatch.delete_dashboards(DashboardNames=["d"])
