"""The body of a CloudWatch dashboard: its parts and limits, validated whenever a body is created or read.

Source of all names, defaults and limits: "Dashboard body structure and syntax" in the CloudWatch API reference, and
"CloudWatch service quotas" in its user guide.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

WIDTH = 24
"""Width of a dashboard in grid columns."""
MAX_BODY_BYTES = 1_000_000
"""The body is part of a CloudFormation template, which is limited to 1 MB."""
_MAX_METRICS, _MAX_METRICS_OF_WIDGET = 2500, 500
_MAX_DIMENSIONS = 30
_STATISTIC = re.compile(r"^(SampleCount|Average|Sum|Minimum|Maximum|p\d{1,2}(\.\d{1,10})?|(tm|wm|tc|ts|IQM).*)$")
_ID = re.compile(r"^[a-z][A-Za-z0-9_]{0,254}$")
Side = Literal["left", "right"]
View = Literal["timeSeries", "singleValue", "table", "bar", "gauge", "pie"]


def _known_statistic(value: str) -> str:
    if not _STATISTIC.match(value):
        raise ValueError(f"{value!r} is no statistic: give Sum, Average, SampleCount, Minimum, Maximum or pNN")
    return value


def _metric_id(value: str) -> str:
    if not _ID.match(value):
        raise ValueError(f"{value!r} is no id of a metric: begin with a small letter, go on with letters, digits and _")
    return value


Statistic = Annotated[str, AfterValidator(_known_statistic)]
MetricId = Annotated[str, AfterValidator(_metric_id)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rendering(_Part):
    """Rendering options of a metric: the object at the end of its array."""

    id: MetricId | None = None
    label: str | None = None
    stat: Statistic | None = None
    period: int | None = Field(default=None, ge=1)
    visible: bool = True
    yAxis: Side = "left"  # noqa: N815 - CloudWatch's name
    color: str | None = Field(default=None, pattern=r"^#[0-9a-fA-F]{6}$")
    region: str | None = None


class Calculation(Rendering):
    """A metric math expression over the ids in the same widget."""

    expression: str = Field(min_length=1, max_length=1024)


@dataclass(frozen=True, slots=True)
class Source:
    """A metric by name, with its dimensions in the given order."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    rendering: Rendering


Series = Source | Calculation


class Annotation(_Part):
    """A horizontal line in a graph."""

    value: float
    label: str | None = None
    yAxis: Side = "left"  # noqa: N815 - CloudWatch's name
    color: str | None = Field(default=None, pattern=r"^#[0-9a-fA-F]{6}$")
    fill: Literal["none", "above", "below"] | None = None
    visible: bool = True


class Annotations(_Part):
    """Lines across a graph."""

    horizontal: tuple[Annotation, ...] = ()


class Axis(_Part):
    """Scale of one axis; without bounds it follows the data."""

    label: str | None = None
    min: float | None = None
    max: float | None = None
    showUnits: bool = True  # noqa: N815 - CloudWatch's name


class Axes(_Part):
    """Scales of the left and right axes."""

    left: Axis = Axis()
    right: Axis = Axis()


class Legend(_Part):
    """Position of the legend."""

    position: Literal["right", "bottom", "hidden"] = "bottom"


class MetricProperties(_Part):
    """A graph or a row of numbers; `stat` and `period` apply to metrics that set none."""

    metrics: tuple[tuple[Any, ...], ...] = Field(min_length=1, max_length=_MAX_METRICS_OF_WIDGET)
    region: str = Field(min_length=1)
    title: str | None = None
    view: View = "timeSeries"
    stacked: bool = False
    stat: Statistic = "Average"
    period: int = Field(default=300, ge=1)
    yAxis: Axes = Axes()  # noqa: N815 - CloudWatch's name
    annotations: Annotations = Annotations()
    legend: Legend = Legend()
    setPeriodToTimeRange: bool = False  # noqa: N815 - CloudWatch's name
    sparkline: bool = True

    @property
    def series(self) -> tuple[Series, ...]:
        """Lines of the graph, in order."""
        found, before = [], tuple[str, ...]()
        for entry in self.metrics:
            series, before = _series(entry, before)
            found.append(series)
        return tuple(found)

    @model_validator(mode="after")
    def _readable(self) -> "MetricProperties":
        series = self.series
        ids = [entry.id if isinstance(entry, Calculation) else entry.rendering.id for entry in series]
        named = [each for each in ids if each is not None]
        if twice := {each for each in named if named.count(each) > 1}:
            raise ValueError(f"{self.title}: the id {sorted(twice)[0]} is given twice")
        for entry in series:
            if isinstance(entry, Calculation):
                unknown = referenced(entry.expression) - set(named)
                if unknown:
                    raise ValueError(f"{self.title}: {entry.expression!r} names {sorted(unknown)[0]}, which is no id")
        return self


class TextProperties(_Part):
    """Markdown text."""

    markdown: str


class AlarmProperties(_Part):
    """States of alarms."""

    alarms: tuple[str, ...] = Field(min_length=1, max_length=100)
    title: str | None = None
    sortBy: Literal["default", "stateUpdatedTimestamp", "timestamp"] = "default"  # noqa: N815 - CloudWatch's name


class _Widget(_Part):
    x: int = Field(ge=0, lt=WIDTH)
    y: int = Field(ge=0)
    width: int = Field(ge=1, le=WIDTH)
    height: int = Field(ge=1, le=1000)

    @model_validator(mode="after")
    def _inside(self) -> "_Widget":
        if self.x + self.width > WIDTH:
            raise ValueError(f"x {self.x} and width {self.width} reach over the {WIDTH} columns")
        return self


class MetricWidget(_Widget):
    """A graph, or numbers, with its position."""

    type: Literal["metric"]
    properties: MetricProperties


class TextWidget(_Widget):
    """A text with its position."""

    type: Literal["text"]
    properties: TextProperties


class AlarmWidget(_Widget):
    """States of alarms with their position."""

    type: Literal["alarm"]
    properties: AlarmProperties


Widget = Annotated[MetricWidget | TextWidget | AlarmWidget, Field(discriminator="type")]


class DashboardBody(_Part):
    """A complete dashboard body."""

    widgets: tuple[Widget, ...] = Field(max_length=500)
    start: str | None = None
    end: str | None = None
    periodOverride: Literal["auto", "inherit"] = "auto"  # noqa: N815 - CloudWatch's name

    @model_validator(mode="after")
    def _not_too_much(self) -> "DashboardBody":
        metrics = sum(len(w.properties.metrics) for w in self.widgets if isinstance(w, MetricWidget))
        if metrics > _MAX_METRICS:
            raise ValueError(f"{metrics} metrics are on the dashboard: CloudWatch shows {_MAX_METRICS} at the most")
        return self


def referenced(expression: str) -> set[str]:
    """Return the ids used in a metric math expression, which start with a lowercase letter."""
    return set(re.findall(r"\b[a-z][A-Za-z0-9_]*\b", re.sub(r'"[^"]*"', "", expression)))


def _series(entry: Sequence[Any], before: tuple[str, ...]) -> tuple[Series, tuple[str, ...]]:
    """Return a line, and the names that the next one may repeat.

    before: namespace, name and dimensions of the metric before.
    """
    *names, last = entry
    if isinstance(last, str):
        names, last = [*names, last], {}
    if not names and "expression" in last:
        return Calculation.model_validate(last), before
    whole = _in_full(names, before)
    if len(whole) < 2 or len(whole) % 2 or len(whole) > 2 + 2 * _MAX_DIMENSIONS:
        raise ValueError(f"{list(entry)!r} is no metric: give namespace, name, and pairs of dimension and value")
    namespace, name, *pairs = whole
    dimensions = tuple(zip(pairs[::2], pairs[1::2], strict=True))
    return Source(namespace, name, dimensions, Rendering.model_validate(last)), whole


def _in_full(names: Sequence[Any], before: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the shorthands: `.` repeats the name at its place, `...` all names up to those that follow it."""
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{list(names)!r} is no metric: names are text")
    if names[:1] == ["..."]:
        kept = len(before) - len(names) + 1
        if kept < 1:
            raise ValueError(f"{list(names)!r}: '...' repeats the metric before, which has {len(before)} names")
        names = [*before[:kept], *names[1:]]
    missing = [place for place, name in enumerate(names) if name == "." and place >= len(before)]
    if missing or "..." in names:
        raise ValueError(f"{list(names)!r}: '.' repeats a name of the metric before, which has {len(before)} names")
    return tuple(before[place] if name == "." else name for place, name in enumerate(names))


Placed = tuple[Literal["metric", "text", "alarm"], dict[str, Any], int]
"""A widget's type, its properties, and its width in columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """Widgets in one row, at most 24 columns together.

    height: in grid units.
    """

    widgets: tuple[Placed, ...]
    height: int = 6


def compose(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the body with these rows from top to bottom, as JSON values; raises pydantic's ValidationError."""
    widgets: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        x = 0
        for kind, properties, width in row.widgets:
            place = {"x": x, "y": y, "width": width, "height": row.height}
            widgets.append({"type": kind, **place, "properties": properties})
            x += width
        y += row.height
    body = {"periodOverride": "inherit", "widgets": widgets}
    DashboardBody.model_validate(body)
    size = len(json.dumps(body).encode())
    if size > MAX_BODY_BYTES:
        raise ValueError(f"the dashboard's body has {size} bytes: {MAX_BODY_BYTES} are possible; show fewer endpoints")
    return body
