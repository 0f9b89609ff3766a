"""Building blocks that the dashboards share: lines, graphs and numbers, as CloudWatch's JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

PERIOD_SECONDS = 60
Line = list[Any]


def metric(
    namespace: str,
    name: str,
    dimensions: Mapping[str, str],
    stat: str,
    label: str | None = None,
    *,
    id: str | None = None,
    hidden: bool = False,
    right: bool = False,
) -> Line:
    """Return one metric of a widget.

    label: name of the line; by default, the metric's name.
    right: whether it uses the right axis.
    """
    names = [name_or_value for pair in dimensions.items() for name_or_value in pair]
    return [namespace, name, *names, {"stat": stat, "label": label or name, **_drawn(id, hidden, right)}]


def calculated(
    expression: str, label: str, *, id: str | None = None, hidden: bool = False, right: bool = False
) -> Line:
    """Return one metric math expression of a widget."""
    return [{"expression": expression, "label": label, **_drawn(id, hidden, right)}]


def _drawn(id: str | None, hidden: bool, right: bool) -> dict[str, Any]:
    drawn: dict[str, Any] = {} if id is None else {"id": id}
    if hidden:
        drawn["visible"] = False
    if right:
        drawn["yAxis"] = "right"
    return drawn


def graph(
    title: str,
    lines: Sequence[Line],
    region: str,
    *,
    left: str,
    right: str | None = None,
    limits: Sequence[tuple[str, float]] = (),
    stacked: bool = False,
) -> dict[str, Any]:
    """Return lines over time as a graph.

    left, right: labels of the axes.
    limits: horizontal lines on the left axis, with their names.
    """
    axes: dict[str, Any] = {"left": {"label": left, "min": 0, "showUnits": False}}
    if right is not None:
        axes["right"] = {"label": right, "min": 0, "showUnits": False}
    made: dict[str, Any] = {
        "title": title,
        "metrics": list(lines),
        "region": region,
        "view": "timeSeries",
        "period": PERIOD_SECONDS,
        "yAxis": axes,
    }
    if stacked:
        made["stacked"] = True
    if limits:
        made["annotations"] = {"horizontal": [{"label": label, "value": value} for label, value in limits]}
    return made


def numbers(title: str, lines: Sequence[Line], region: str) -> dict[str, Any]:
    """Return a widget with the latest values of lines."""
    return {
        "title": title,
        "metrics": list(lines),
        "region": region,
        "view": "singleValue",
        "period": PERIOD_SECONDS,
        "sparkline": True,
    }
