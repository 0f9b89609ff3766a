"""Dashboard rows of one SageMaker endpoint: load, latency, cache, instances, scaling and cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.body import Row
from dashboards.graphs import PERIOD_SECONDS, Line, calculated, graph, metric, numbers

SERVING = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
_LOADING = ("ModelLoadingTime", "ModelDownloadingTime", "ModelLoadingWaitTime", "ModelUnloadingTime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Target value of a metric per instance or copy, for scaling.

    metric: its CloudWatch name.
    least, most: minimum and maximum number of instances or copies.
    """

    metric: str
    value: float
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A production variant.

    component: name of the inference component that serves in its place, if any.
    usd_per_hour: price of one instance; None if the price table does not have it.
    target: scaling target; None if the size is fixed or scaling tracks no metric.
    """

    name: str
    instance_type: str
    usd_per_hour: float | None = None
    component: str | None = None
    target: Target | None = None

    def served_by(self, endpoint: str) -> dict[str, str]:
        """Return the dimensions of the metrics of its requests."""
        if self.component is not None:
            return {"InferenceComponentName": self.component}
        return self.placed_on(endpoint)

    def placed_on(self, endpoint: str) -> dict[str, str]:
        """Return the dimensions of the metrics of its instances."""
        return {"EndpointName": endpoint, "VariantName": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint and its alarms.

    p99_model_latency_ms, model_loading_wait_ms: thresholds of its alarms.
    alarms: ARNs of its alarms.
    """

    name: str
    variants: tuple[Variant, ...]
    multi_model: bool
    p99_model_latency_ms: float
    model_loading_wait_ms: float
    alarms: tuple[str, ...]


def rows(endpoint: Endpoint, region: str) -> list[Row]:
    """Return the rows of an endpoint: a title with its alarms, then four rows per variant."""
    described = ", ".join(f"{variant.name} on {variant.instance_type}" for variant in endpoint.variants)
    made = [
        Row(
            (
                ("text", {"markdown": f"## {endpoint.name}\n{described}"}, 12),
                ("alarm", {"title": "alarms", "alarms": list(endpoint.alarms)}, 12),
            ),
            height=3,
        )
    ]
    for variant in endpoint.variants:
        made += [
            _latest(endpoint, variant, region),
            _flow(endpoint, variant, region),
            _percentiles(endpoint, variant, region),
            _capacity(endpoint, variant, region),
        ]
    return made


def instances(endpoint: str, variant: Variant, label: str = "in service", *, id: str, hidden: bool = True) -> Line:
    """Return the number of instances in service: the sample count of their CPU utilization, published every minute.

    SageMaker does not publish the number of instances.
    """
    return metric(INSTANCES, "CPUUtilization", variant.placed_on(endpoint), "SampleCount", label, id=id, hidden=hidden)


def _title(endpoint: Endpoint, variant: Variant, what: str) -> str:
    return f"{endpoint.name} {variant.name}: {what}"


def _served(
    endpoint: Endpoint,
    variant: Variant,
    name: str,
    stat: str,
    label: str | None = None,
    *,
    id: str | None = None,
    hidden: bool = False,
    right: bool = False,
) -> Line:
    return metric(SERVING, name, variant.served_by(endpoint.name), stat, label, id=id, hidden=hidden, right=right)


def _milliseconds(
    endpoint: Endpoint, variant: Variant, shown: Sequence[tuple[str, str, str]], *, begin: int = 1
) -> list[Line]:
    """Return metrics in microseconds as lines in milliseconds; `shown` has the name, statistic and label of each."""
    made: list[Line] = []
    for number, (name, stat, label) in enumerate(shown, begin):
        made += [
            _served(endpoint, variant, name, stat, id=f"us{number}", hidden=True),
            calculated(f"us{number}/1000", label),
        ]
    return made


def _shares(endpoint: Endpoint, variant: Variant) -> list[Line]:
    """Return error rates and, for a multi-model endpoint, cache hit rates, in percent of the requests."""
    made = [
        _served(endpoint, variant, "Invocations", "Sum", id="asked", hidden=True),
        _served(endpoint, variant, "Invocation4XXErrors", "Sum", id="bad", hidden=True),
        _served(endpoint, variant, "Invocation5XXErrors", "Sum", id="broken", hidden=True),
        calculated("IF(asked>0,100*bad/asked)", "4XX %"),
        calculated("IF(asked>0,100*broken/asked)", "5XX %"),
    ]
    if endpoint.multi_model:
        made += [
            _served(endpoint, variant, "ModelCacheHit", "Average", id="hit", hidden=True),
            calculated("100*hit", "cache hits %"),
        ]
    return made


def _money(endpoint: Endpoint, variant: Variant) -> list[Line]:
    """Return the cost in US dollars per hour and per million requests; empty without a price."""
    if variant.usd_per_hour is None:
        return []
    minutes = 3600 // PERIOD_SECONDS
    return [
        instances(endpoint.name, variant, id="running"),
        _served(endpoint, variant, "Invocations", "Sum", id="answered", hidden=True),
        calculated(f"running*{variant.usd_per_hour:g}", "$ an hour"),
        calculated(
            f"IF(answered>0,1000000*running*{variant.usd_per_hour:g}/{minutes}/answered)", "$ a million", right=True
        ),
    ]


def _latest(endpoint: Endpoint, variant: Variant, region: str) -> Row:
    shown = [("ModelLatency", "Average", "ModelLatency ms"), ("OverheadLatency", "Average", "OverheadLatency ms")]
    if endpoint.multi_model:
        shown += [(name, "Average", f"{name} ms") for name in _LOADING]
    lines = [
        _served(endpoint, variant, "Invocations", "Sum", label="requests a minute"),
        *_milliseconds(endpoint, variant, shown),
    ]
    if endpoint.multi_model:
        lines.append(
            metric(INSTANCES, "LoadedModelCount", variant.placed_on(endpoint.name), "Average", "loaded models")
        )
    lines += _money(endpoint, variant)
    return Row((("metric", numbers(_title(endpoint, variant, "latest values"), lines, region), 24),), height=4)


def _flow(endpoint: Endpoint, variant: Variant, region: str) -> Row:
    per_one = "InvocationsPerInstance" if variant.component is None else "InvocationsPerCopy"
    load = [
        _served(endpoint, variant, "Invocations", "Sum"),
        _served(endpoint, variant, per_one, "Sum"),
        _served(endpoint, variant, "Invocation4XXErrors", "Sum", right=True),
        _served(endpoint, variant, "Invocation5XXErrors", "Sum", right=True),
    ]
    spent = [("ModelLatency", "Average", "ModelLatency"), ("OverheadLatency", "Average", "OverheadLatency")]
    if endpoint.multi_model:
        load.insert(2, _served(endpoint, variant, "ModelCacheHit", "Sum"))
        spent = [(name, "Average", name) for name in _LOADING] + spent
    if variant.component is not None:
        load.append(_served(endpoint, variant, "NoCapacityInvocationFailures", "Sum", right=True))
    placed = variant.placed_on(endpoint.name)
    machines = [
        metric(INSTANCES, name, placed, "Average")
        for name in ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
    ]
    if endpoint.multi_model:
        machines.append(metric(INSTANCES, "LoadedModelCount", placed, "Average", right=True))
    return Row(
        (
            (
                "metric",
                graph(
                    _title(endpoint, variant, "requests, errors" + (" and cache" if endpoint.multi_model else "")),
                    load,
                    region,
                    left="requests a minute",
                    right="errors a minute",
                ),
                9,
            ),
            (
                "metric",
                graph(
                    _title(endpoint, variant, "where the time goes"),
                    _milliseconds(endpoint, variant, spent),
                    region,
                    left="ms, average",
                    stacked=True,
                ),
                9,
            ),
            (
                "metric",
                graph(
                    _title(endpoint, variant, "instances"),
                    machines,
                    region,
                    left="percent",
                    right="models" if endpoint.multi_model else None,
                ),
                6,
            ),
        )
    )


def _percentiles(endpoint: Endpoint, variant: Variant, region: str) -> Row:
    def of(name: str) -> list[Line]:
        return _milliseconds(endpoint, variant, [(name, stat, stat.upper()) for stat in ("p50", "p90", "p99")])

    waiting = [("alarm: loading wait", endpoint.model_loading_wait_ms)] if endpoint.multi_model else []
    model = of("ModelLatency")
    if endpoint.multi_model:
        model += _milliseconds(
            endpoint, variant, [("ModelLoadingWaitTime", "Average", "average wait for models")], begin=4
        )
    return Row(
        (
            (
                "metric",
                graph(
                    _title(endpoint, variant, "ModelLatency"),
                    model,
                    region,
                    left="ms",
                    limits=[("alarm: P99", endpoint.p99_model_latency_ms), *waiting],
                ),
                9,
            ),
            (
                "metric",
                graph(_title(endpoint, variant, "OverheadLatency"), of("OverheadLatency"), region, left="ms"),
                9,
            ),
            (
                "metric",
                graph(
                    _title(endpoint, variant, "shares of the requests"),
                    _shares(endpoint, variant),
                    region,
                    left="percent",
                ),
                6,
            ),
        )
    )


def _capacity(endpoint: Endpoint, variant: Variant, region: str) -> Row:
    """Return graphs of instances in service and desired, load per instance against the target, and cost."""
    target = variant.target
    count = [instances(endpoint.name, variant, id="running", hidden=False)]
    bounds: list[tuple[str, float]] = []
    each: list[Line] = []
    if target is not None:
        statistic = "Sum" if "Invocations" in target.metric else "Maximum"
        each = [_served(endpoint, variant, target.metric, statistic)]
        bounds = [("least", target.least), ("most", target.most)]
        if statistic == "Sum":
            count += [
                _served(endpoint, variant, "Invocations", "Sum", id="asked", hidden=True),
                calculated(f"CEIL(asked/{target.value:g})", "desired by the target, without bounds"),
            ]
    shown: list[tuple[dict[str, object], int]] = [
        (graph(_title(endpoint, variant, "capacity"), count, region, left="instances", limits=bounds), 9)
    ]
    if target is not None:
        shown.append(
            (
                graph(
                    _title(endpoint, variant, "what scaling tracks"),
                    each,
                    region,
                    left="of each",
                    limits=[("target", target.value)],
                ),
                9,
            )
        )
    money = _money(endpoint, variant)
    if money:
        shown.append(
            (graph(_title(endpoint, variant, "cost"), money, region, left="$ an hour", right="$ a million"), 6)
        )
    return Row(tuple(("metric", properties, width) for properties, width in shown))
