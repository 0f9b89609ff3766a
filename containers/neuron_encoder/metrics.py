"""What one process tells Prometheus."""

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
    """Counters of one process, each with the name of its core group.

    queued: windows of a model that wait, by the model's number.
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
            "Time from a request's body to its answer.",
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
            "Rows of traced batches that stayed empty.",
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
        """A request was answered."""
        self._served[model].inc()
        self._latency[model].observe(seconds)

    def failed(self, model: int | None, status: int, code: str) -> None:
        """A request was refused or failed; model: None where it named none that is there."""
        self._requests.labels(self._name, "" if model is None else str(model), str(status)).inc()
        self._failures.labels(self._name, code).inc()

    def batch(self, model: int, length: int, rows: int, size: int) -> None:
        """A batch went to the core."""
        del length
        self._rows[model].observe(rows)
        self._padding.inc(size - rows)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _CoreCollector(Collector):
    """Reads the core when it is asked: its busy time, its utilisation since the reading before, and its queues."""

    def __init__(self, core: CoreGroup, models: int, queued: Callable[[int], int], clock: Callable[[], float]) -> None:
        self._core, self._models, self._queued, self._clock = core, models, queued, clock
        self._before = (clock(), core.busy_seconds)
        self._utilization = 0.0

    def collect(self) -> Iterable[Metric]:
        """Three families of one sample for each core or model."""
        name, busy, now = self._core.name, self._core.busy_seconds, self._clock()
        began, busy_before = self._before
        # Readers that follow closely upon each other would see single batches.
        if now - began >= 1.0:
            self._utilization = min(1.0, (busy - busy_before) / (now - began))
            self._before = (now, busy)
        seconds = CounterMetricFamily(
            "neuron_encoder_core_busy_seconds", "Time that the core group was running batches.", labels=["core"]
        )
        seconds.add_metric([name], busy)
        utilization = GaugeMetricFamily(
            "neuron_encoder_core_utilization_ratio",
            "Share of the time since the reading before, a second at least, that the core group was busy.",
            labels=["core"],
        )
        utilization.add_metric([name], self._utilization)
        depth = GaugeMetricFamily(
            "neuron_encoder_queue_windows", "Windows that wait for a batch.", labels=["core", "model"]
        )
        for model in range(self._models):
            depth.add_metric([name, str(model)], self._queued(model))
        return (seconds, utilization, depth)
