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


DATUM = {"MetricName": "latency", "Dimensions": ON}
OLD, EARLY = NOW - datetime.timedelta(days=15), NOW + datetime.timedelta(hours=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "Exactly one of"),
        ({"Value": 1.0, "Values": [1.0]}, "Exactly one of"),
        ({"Value": 1e200}, r"MetricData\.member\.2\.Value is invalid"),
        ({"Value": float("nan")}, "expected float"),
        ({"Values": [1.0] * 151}, "from 1 to 150"),
        ({"Values": [1.0, 2.0], "Counts": [1.0]}, "same size"),
        ({"Values": [1.0], "Counts": [0.0]}, "greater than 0"),
        ({"Value": 1.0, "Timestamp": OLD}, "two weeks"),
        ({"Value": 1.0, "Timestamp": EARLY}, "two hours"),
        ({"Value": 1.0, "StorageResolution": 5}, "1 or 60"),
        ({"Value": 1.0, "Dimensions": [{"Name": f"d{number}", "Value": "v"} for number in range(31)]}, "30"),
    ],
)
def test_data_that_cloudwatch_refuses_is_refused_with_its_whole_request(
    cloudwatch: Any, changes: dict[str, Any], message: str
) -> None:
    good = {"MetricName": "good", "Value": 1.0}
    with pytest.raises(ClientError, match=message):
        cloudwatch.put_metric_data(Namespace="Refused", MetricData=[good, {**DATUM, **changes}])
    assert cloudwatch.list_metrics(Namespace="Refused")["Metrics"] == []


def test_metrics_are_listed_by_what_is_asked_for_and_in_pages(cloudwatch: Any) -> None:
    names = [f"m{number:03}" for number in range(510)]
    for begin in range(0, len(names), 255):
        data = [{"MetricName": name, "Dimensions": ON, "Value": 1.0} for name in names[begin : begin + 255]]
        cloudwatch.put_metric_data(Namespace="Listed", MetricData=data)
    old = {"MetricName": "old", "Value": 1.0, "Timestamp": NOW - datetime.timedelta(hours=4)}
    cloudwatch.put_metric_data(Namespace="Listed", MetricData=[old])

    def listed(**filters: Any) -> list[str]:
        pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace="Listed", **filters)
        return [metric["MetricName"] for page in pages for metric in page["Metrics"]]

    assert listed() == [*names, "old"]
    assert listed(RecentlyActive="PT3H") == names
    assert listed(MetricName="m007") == ["m007"]
    assert listed(Dimensions=[{"Name": "EndpointName"}]) == names
    assert listed(Dimensions=[{"Name": "EndpointName", "Value": "another"}]) == []


def statistics(cloudwatch: Any, **request: Any) -> list[dict[str, Any]]:
    given = {"Namespace": "Test", "StartTime": MINUTES[0], "EndTime": NOW, "Period": 60, "Statistics": ["Sum"]}
    points: list[dict[str, Any]] = cloudwatch.get_metric_statistics(**{**given, **request})["Datapoints"]
    return points


def test_statistics_are_of_exactly_the_metric_and_of_each_unit(cloudwatch: Any) -> None:
    for unit, value in (("Count", 1.0), ("Bytes", 2.0), ("Count", 4.0)):
        datum = {"MetricName": "units", "Timestamp": MINUTES[1], "Value": value, "Unit": unit}
        cloudwatch.put_metric_data(Namespace="Test", MetricData=[datum])
    found = statistics(cloudwatch, MetricName="units", ExtendedStatistics=["p50"])
    assert [(point["Unit"], point["Sum"], point["ExtendedStatistics"]["p50"]) for point in found] == [
        ("Bytes", 2.0, 2.0), ("Count", 5.0, 2.5),
    ]  # fmt: skip
    assert [point["Sum"] for point in statistics(cloudwatch, MetricName="units", Unit="Count")] == [5.0]
    assert statistics(cloudwatch, MetricName="latency") == [], "without its dimensions it is another metric"


def test_a_datapoint_belongs_to_its_minute_wherever_the_request_begins_and_ends(cloudwatch: Any) -> None:
    second = datetime.timedelta(seconds=1)
    datum = {"MetricName": "late", "Timestamp": MINUTES[1] + 59 * second, "Value": 1.0}
    cloudwatch.put_metric_data(Namespace="Test", MetricData=[datum])
    window = {"StartTime": MINUTES[1] + 30 * second, "EndTime": MINUTES[1] + 31 * second}
    (point,) = statistics(cloudwatch, MetricName="late", **window)
    assert point["Timestamp"] == MINUTES[1]


def test_more_datapoints_than_a_response_holds_are_refused(cloudwatch: Any) -> None:
    with pytest.raises(ClientError, match=r"1,441 datapoints, which exceeds the limit of 1,440"):
        statistics(cloudwatch, MetricName="latency", StartTime=NOW - datetime.timedelta(minutes=1441))


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
