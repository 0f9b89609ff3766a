"""Overview dashboard of a deployment's endpoints: load, latency, errors, instances and cost, one line for each."""

from collections.abc import Callable, Sequence

from dashboards.body import Placed, Row
from dashboards.endpoint import SERVING, Endpoint, Variant, instances
from dashboards.graphs import Line, calculated, graph, metric, numbers

_MAX_ALARMS = 100
"""Maximum number of alarms on one alarm widget."""


def rows(endpoints: Sequence[Endpoint], region: str) -> list[Row]:
    """Return the rows of the overview; empty without endpoints."""
    served = [(endpoint, variant) for endpoint in endpoints for variant in endpoint.variants]
    alarms = [alarm for endpoint in endpoints for alarm in endpoint.alarms]
    if not served:
        return []
    return [
        *(
            Row((("alarm", {"title": "alarms", "alarms": alarms[begin : begin + _MAX_ALARMS]}, 24),), height=4)
            for begin in range(0, len(alarms), _MAX_ALARMS)
        ),
        Row((("metric", numbers("all endpoints", _totals(served), region), 24),), height=3),
        Row(
            (
                ("metric", graph("requests", _each(served, _requests), region, left="a minute"), 12),
                ("metric", graph("P99 ModelLatency", _each(served, _latency), region, left="ms"), 12),
            )
        ),
        Row(
            (
                ("metric", graph("answers 5XX", _each(served, _errors), region, left="percent"), 8),
                ("metric", graph("instances in service", _each(served, _running), region, left="instances"), 8),
                *_costs(served, region),
            )
        ),
    ]


Served = tuple[Endpoint, Variant]


def _costs(served: Sequence[Served], region: str) -> list[Placed]:
    lines = _each(served, _cost)
    return [("metric", graph("cost", lines, region, left="$ an hour", stacked=True), 8)] if lines else []


def _each(served: Sequence[Served], lines: Callable[[Served, int, str], list[Line]]) -> list[Line]:
    return [
        line
        for number, (endpoint, variant) in enumerate(served)
        for line in lines((endpoint, variant), number, f"{endpoint.name} {variant.name}")
    ]


def _metric(served: Served, name: str, stat: str, label: str, *, id: str | None = None, hidden: bool = False) -> Line:
    endpoint, variant = served
    return metric(SERVING, name, variant.served_by(endpoint.name), stat, label, id=id, hidden=hidden)


def _requests(served: Served, number: int, label: str) -> list[Line]:  # noqa: ARG001 - one signature for all lines
    return [_metric(served, "Invocations", "Sum", label)]


def _latency(served: Served, number: int, label: str) -> list[Line]:
    return [
        _metric(served, "ModelLatency", "p99", label, id=f"us{number}", hidden=True),
        calculated(f"us{number}/1000", label),
    ]


def _errors(served: Served, number: int, label: str) -> list[Line]:
    return [
        _metric(served, "Invocations", "Sum", label, id=f"asked{number}", hidden=True),
        _metric(served, "Invocation5XXErrors", "Sum", label, id=f"broken{number}", hidden=True),
        calculated(f"IF(asked{number}>0,100*broken{number}/asked{number})", label),
    ]


def _running(served: Served, number: int, label: str) -> list[Line]:
    endpoint, variant = served
    return [instances(endpoint.name, variant, label, id=f"n{number}", hidden=False)]


def _cost(served: Served, number: int, label: str) -> list[Line]:
    endpoint, variant = served
    if variant.usd_per_hour is None:
        return []
    return [
        instances(endpoint.name, variant, id=f"n{number}"),
        calculated(f"n{number}*{variant.usd_per_hour:g}", label),
    ]


def _totals(served: Sequence[Served]) -> list[Line]:
    made: list[Line] = []
    for number, (endpoint, variant) in enumerate(served):
        made += [
            _metric((endpoint, variant), "Invocations", "Sum", "requests", id=f"asked{number}", hidden=True),
            _metric((endpoint, variant), "Invocation5XXErrors", "Sum", "errors", id=f"broken{number}", hidden=True),
            instances(endpoint.name, variant, id=f"running{number}"),
        ]
        if variant.usd_per_hour is not None:
            made.append(calculated(f"running{number}*{variant.usd_per_hour:g}", "$", id=f"usd{number}", hidden=True))
    return [
        *made,
        # Selecting the ids by a part of their name keeps the expression short, however many endpoints there are.
        calculated('SUM(METRICS("asked"))', "requests a minute"),
        calculated('SUM(METRICS("broken"))', "answers 5XX a minute"),
        calculated('SUM(METRICS("running"))', "instances"),
        calculated('SUM(METRICS("usd"))', "$ an hour"),
    ]
