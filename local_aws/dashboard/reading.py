"""A deployed dashboard with its data: the body from CloudWatch, each line's points, and the alarms' states."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import boto3
from pydantic import ValidationError

from dashboards.body import (
    AlarmWidget,
    Calculation,
    DashboardBody,
    MetricProperties,
    MetricWidget,
    Source,
    TextWidget,
    Widget,
)
from local_aws.metric_math import MathError, Points, evaluate

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

_MAX_QUERIES = 500
"""Most queries per GetMetricData call (API reference)."""
Key = tuple[str, str, tuple[tuple[str, str], ...], str, int]
"""Namespace, metric, dimensions, statistic and period (seconds)."""


class DashboardError(LookupError):
    """A dashboard does not exist, or CloudWatch's body is not valid; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line to draw. points: seconds since 1970 and value. note: why there are no points."""

    label: str
    side: Literal["left", "right"]
    points: tuple[tuple[int, float], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Name and state of an alarm; the state is None if there is no such alarm."""

    name: str
    state: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A widget and its data: lines of a metric widget, alarms of an alarm widget, neither for text."""

    widget: Widget
    lines: tuple[Line, ...] = ()
    alarms: tuple[Alarm, ...] = ()


def names(cloudwatch: "CloudWatchClient") -> list[str]:
    """Return the names of the deployed dashboards, the overview first."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    deployed = [entry["DashboardName"] for page in pages for entry in page["DashboardEntries"]]
    return sorted(deployed, key=lambda name: (not name.endswith("-overview"), name))


def body(cloudwatch: "CloudWatchClient", name: str) -> DashboardBody:
    """Return the dashboard deployed under a name; raise DashboardError."""
    try:
        text = cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
    except cloudwatch.exceptions.ClientError as error:
        deployed = ", ".join(names(cloudwatch)) or "none; deploy a workload first"
        raise DashboardError(f"no dashboard {name!r}; deployed: {deployed}") from error
    try:
        return DashboardBody.model_validate_json(text)
    except ValidationError as error:
        raise DashboardError(f"dashboard {name!r} cannot be drawn by this page: {error}") from error


def draw(cloudwatch: "CloudWatchClient", shown: DashboardBody, minutes: int) -> list[Drawn]:
    """Return every widget with its data from the last `minutes` minutes."""
    keys = dict.fromkeys(
        _key(line, widget.properties)
        for widget in shown.widgets
        if isinstance(widget, MetricWidget)
        for line in widget.properties.series
        if isinstance(line, Source)
    )
    data = _read(cloudwatch, list(keys), minutes)
    states = _alarms(cloudwatch, shown)
    return [_drawn(widget, data, states) for widget in shown.widgets]


def _drawn(widget: Widget, data: Mapping[Key, Points], states: Mapping[str, Alarm]) -> Drawn:
    match widget:
        case MetricWidget():
            return Drawn(widget, lines=tuple(_lines(widget.properties, data)))
        case AlarmWidget():
            names_of = [alarm.rpartition(":")[2] for alarm in widget.properties.alarms]
            return Drawn(widget, alarms=tuple(states.get(name, Alarm(name, None, "")) for name in names_of))
        case TextWidget():
            return Drawn(widget)


def _lines(properties: MetricProperties, data: Mapping[Key, Points]) -> list[Line]:
    lines = []
    known: dict[str, Points] = {}
    for series in properties.series:
        rendering = series if isinstance(series, Calculation) else series.rendering
        note = ""
        if isinstance(series, Source):
            points = data[_key(series, properties)]
        else:
            try:
                points = evaluate(series.expression, known)
            except MathError as error:
                points, note = {}, str(error)
        if rendering.id is not None:
            known[rendering.id] = points
        if rendering.visible:
            label = rendering.label or (series.expression if isinstance(series, Calculation) else series.name)
            lines.append(Line(label, rendering.yAxis, tuple(sorted(points.items())), note))
    return lines


def _key(source: Source, properties: MetricProperties) -> Key:
    drawn = source.rendering
    return (
        source.namespace, source.name, source.dimensions, drawn.stat or properties.stat,
        drawn.period or properties.period,
    )  # fmt: skip


def _read(cloudwatch: "CloudWatchClient", keys: Sequence[Key], minutes: int) -> dict[Key, Points]:
    points: dict[Key, Points] = {}
    now = time.time()
    for begin in range(0, len(keys), _MAX_QUERIES):
        part = {f"q{number}": key for number, key in enumerate(keys[begin : begin + _MAX_QUERIES])}
        queries = [_query(id, key) for id, key in part.items()]
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            # Start on a whole minute, so the first period is complete too.
            StartTime=datetime.fromtimestamp(now // 60 * 60 - 60 * minutes, UTC),
            EndTime=datetime.fromtimestamp(now + 1, UTC),
            ScanBy="TimestampAscending",
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                moments = [int(moment.timestamp()) for moment in result["Timestamps"]]
                points.setdefault(part[result["Id"]], {}).update(zip(moments, result["Values"], strict=True))
    return {key: points.get(key, {}) for key in keys}


def _query(id: str, key: Key) -> "MetricDataQueryTypeDef":
    namespace, name, dimensions, stat, period = key
    return {
        "Id": id,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": dimension, "Value": value} for dimension, value in dimensions],
            },
            "Period": period,
            "Stat": stat,
        },
    }


def _alarms(cloudwatch: "CloudWatchClient", shown: DashboardBody) -> dict[str, Alarm]:
    wanted = sorted(
        {
            alarm.rpartition(":")[2]
            for widget in shown.widgets
            if isinstance(widget, AlarmWidget)
            for alarm in widget.properties.alarms
        }
    )
    states: dict[str, Alarm] = {}
    for begin in range(0, len(wanted), 100):
        pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNames=wanted[begin : begin + 100])
        for page in pages:
            for alarm in page["MetricAlarms"]:
                states[alarm["AlarmName"]] = Alarm(alarm["AlarmName"], alarm["StateValue"], alarm["StateReason"])
    return states


def client(endpoint_url: str, environment: Mapping[str, str]) -> "CloudWatchClient":
    """Return a client of a local account's CloudWatch, ignoring this process's own environment."""
    return boto3.client(
        "cloudwatch",
        endpoint_url=endpoint_url,
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
