"""Prometheus metrics of one process."""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from containers.neuron_encoder.devices.core import CoreGroup

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)
_BATCH_BUCKETS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)


class Metrics:
    """The metrics of one process, each labeled with its core group.

    queued: returns the number of waiting windows for a model's number.
    """

    def __init__(
        self,
        core: CoreGroup,
        models: int,
        queued: Callable[[int], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry = CollectorRegistry()
        name = core.name
        requests = Counter(
            "neuron_encoder_requests", "Requests by status.", ["core", "model", "status"], registry=registry
        )
        failures = Counter(
            "neuron_encoder_failures", "Requests refused or failed.", ["core", "code"], registry=registry
        )
        latency = Histogram(
            "neuron_encoder_request_seconds",
            "Time from a request's body to its response.",
            ["core", "model"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        rows = Histogram(
            "neuron_encoder_batch_rows",
            "Windows in a batch.",
            ["core", "model"],
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        padding = Counter(
            "neuron_encoder_batch_padding_rows",
            "Padding rows in traced batches.",
            ["core"],
            registry=registry,
        )
        self._served = [requests.labels(name, str(model), "200") for model in range(models)]
        self._latency = [latency.labels(name, str(model)) for model in range(models)]
        self._rows = [rows.labels(name, str(model)) for model in range(models)]
        self._padding = padding.labels(name)
        self._requests, self._failures, self._name = requests, failures, name
        registry.register(_CoreCollector(core, models, queued, clock))

    def answered(self, model: int, seconds: float) -> None:
        """Record a successful request."""
        self._served[model].inc()
        self._latency[model].observe(seconds)

    def failed(self, model: int | None, status: int, code: str) -> None:
        """Record a refused or failed request; `model` is None if it named no existing model."""
        self._requests.labels(self._name, "" if model is None else str(model), str(status)).inc()
        self._failures.labels(self._name, code).inc()

    def batch(self, model: int, length: int, rows: int, size: int) -> None:
        """Record a batch that went to the core."""
        del length  # The Observer protocol passes it; these metrics are not split by length.
        self._rows[model].observe(rows)
        self._padding.inc(size - rows)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _CoreCollector(Collector):
    """A collector that reads a core group on demand: busy time, utilization since the previous reading, and queues."""

    def __init__(self, core: CoreGroup, models: int, queued: Callable[[int], int], clock: Callable[[], float]) -> None:
        self._core, self._models, self._queued, self._clock = core, models, queued, clock
        self._before = (clock(), core.busy_seconds)
        self._utilization = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return three metric families, with one sample per core group or model."""
        name, busy, now = self._core.name, self._core.busy_seconds, self._clock()
        began, busy_before = self._before
        # Over intervals shorter than a second, single batches would dominate the utilization.
        if now - began >= 1.0:
            self._utilization = min(1.0, (busy - busy_before) / (now - began))
            self._before = (now, busy)
        seconds = CounterMetricFamily(
            "neuron_encoder_core_busy_seconds", "Time that the core group was running batches.", labels=["core"]
        )
        seconds.add_metric([name], busy)
        utilization = GaugeMetricFamily(
            "neuron_encoder_core_utilization_ratio",
            "Fraction of the time since the previous reading, at least a second, that the core group was busy.",
            labels=["core"],
        )
        utilization.add_metric([name], self._utilization)
        depth = GaugeMetricFamily(
            "neuron_encoder_queue_windows", "Windows that wait for a batch.", labels=["core", "model"]
        )
        for model in range(self._models):
            depth.add_metric([name, str(model)], self._queued(model))
        return (seconds, utilization, depth)
