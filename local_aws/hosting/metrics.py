"""SageMaker's own CloudWatch metrics, published once a minute."""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.hosting.control import ControlPlane

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDatumTypeDef

logger = logging.getLogger("metrics")
PERIOD_SECONDS = 60
_MAX_VALUES = 150
"""Distinct values in one metric datum (PutMetricData API reference)."""


@dataclass
class _Minute:
    invocations: int = 0
    client_errors: int = 0
    server_errors: int = 0
    model_cache_hits: Counter[float] = field(default_factory=Counter)
    microseconds: defaultdict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))


class VariantMetrics:
    """Takes what SageMaker measures about a multi-model variant's models; see ModelMetrics.

    minute: gives the period that is being collected, which may change while a model loads.
    """

    def __init__(self, minute: Callable[[], _Minute]) -> None:
        self._minute = minute

    def model_cache(self, *, hit: bool) -> None:
        """One request found its model loaded, or did not."""
        self._minute().model_cache_hits[float(hit)] += 1

    def model_time(self, metric: str, seconds: float) -> None:
        """One of SageMaker's model loading metrics, by its CloudWatch name."""
        self._minute().microseconds[metric][_rounded(seconds * 1e6)] += 1


class Metrics:
    """Collects per variant what the runtime tells, and sends it to the account's CloudWatch."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._minutes: dict[tuple[str, str], _Minute] = defaultdict(_Minute)
        self.invocations: Counter[tuple[str, str]] = Counter()

    def record(self, endpoint: str, variant: str, status: int, model_us: float, overhead_us: float) -> None:
        """One invocation: the HTTP status and both latencies in microseconds."""
        minute = self._minutes[endpoint, variant]
        minute.invocations += 1
        self.invocations[endpoint, variant] += 1
        minute.client_errors += 400 <= status < 500
        minute.server_errors += status >= 500
        minute.microseconds["ModelLatency"][_rounded(model_us)] += 1
        minute.microseconds["OverheadLatency"][_rounded(overhead_us)] += 1

    def of(self, endpoint: str, variant: str) -> VariantMetrics:
        """Where a variant's model loading metrics go."""
        return VariantMetrics(lambda: self._minutes[endpoint, variant])

    async def publish_forever(self) -> None:
        """Publishes at every period's end."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.publish()

    async def publish(self) -> None:
        """Publishes what was collected since the last call."""
        minutes, self._minutes = self._minutes, defaultdict(_Minute)
        data: dict[str, list[MetricDatumTypeDef]] = {
            "AWS/SageMaker": [d for (e, v), m in minutes.items() for d in self._invocations(e, v, m)],
            "/aws/sagemaker/Endpoints": self._utilization(),
        }
        try:
            await asyncio.to_thread(_put, data)
        except (ClientError, BotoCoreError):
            logger.warning("metrics of this minute were not taken by the emulator")

    def _invocations(self, endpoint: str, variant: str, minute: _Minute) -> "list[MetricDatumTypeDef]":
        fleet = self._control.fleets.get(endpoint)
        replicas = len(fleet.variants[variant].ready) if fleet and variant in fleet.variants else 1
        values = {
            "Invocations": minute.invocations,
            "InvocationsPerInstance": minute.invocations / max(1, replicas),
            "Invocation4XXErrors": minute.client_errors,
            "Invocation5XXErrors": minute.server_errors,
        }
        dimensions = _dimensions(endpoint, variant)
        made: list[MetricDatumTypeDef] = [
            {"MetricName": name, "Dimensions": dimensions, "Value": float(value), "Unit": "Count"}
            for name, value in values.items()
        ]
        distributions: list[tuple[str, Counter[float], StandardUnitType]] = [
            (name, counts, "Microseconds") for name, counts in minute.microseconds.items()
        ]
        if minute.model_cache_hits:
            distributions.append(("ModelCacheHit", minute.model_cache_hits, "None"))
        for name, counts, unit in distributions:
            ordered = sorted(counts.items())
            for begin in range(0, len(ordered), _MAX_VALUES):
                part = ordered[begin : begin + _MAX_VALUES]
                made.append(
                    {
                        "MetricName": name,
                        "Dimensions": dimensions,
                        "Values": [value for value, _ in part],
                        "Counts": [float(count) for _, count in part],
                        "Unit": unit,
                    }
                )
        return made

    def _utilization(self) -> "list[MetricDatumTypeDef]":
        made: list[MetricDatumTypeDef] = []
        disk = psutil.disk_usage("/").percent
        for endpoint, fleet in self._control.fleets.items():
            for variant in fleet.variants.values():
                for replica in variant.ready:
                    with contextlib.suppress(psutil.Error):
                        process = psutil.Process(replica.pid)
                        values = {
                            "CPUUtilization": process.cpu_percent(interval=0.05),
                            "MemoryUtilization": process.memory_percent(),
                            "DiskUtilization": disk,
                        }
                        if replica.models is not None:
                            made.append(
                                {
                                    "MetricName": "LoadedModelCount",
                                    "Dimensions": _dimensions(endpoint, variant.name),
                                    "Value": float(replica.models.loaded),
                                    "Unit": "None",
                                }
                            )
                        made += [
                            {
                                "MetricName": name,
                                "Dimensions": _dimensions(endpoint, variant.name),
                                "Value": value,
                                "Unit": "Percent",
                            }
                            for name, value in values.items()
                        ]
        return made


def _rounded(value: float) -> float:
    """Three significant digits: enough for a percentile, and few distinct values."""
    return float(f"{value:.3g}")


def _dimensions(endpoint: str, variant: str) -> "list[DimensionTypeDef]":
    return [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]


def _put(data: "dict[str, list[MetricDatumTypeDef]]") -> None:
    cloudwatch = boto3.client("cloudwatch")
    for namespace, metrics in data.items():
        for begin in range(0, len(metrics), 500):
            cloudwatch.put_metric_data(Namespace=namespace, MetricData=metrics[begin : begin + 500])
