"""SageMaker's own CloudWatch metrics, published once per minute."""

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.account import time_scale
from local_aws.hosting.components import KIND as COMPONENT
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.placement import Compute

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDatumTypeDef

logger = logging.getLogger("metrics")
PERIOD_SECONDS = 60
_FOLLOWED_PERIODS = 5
Subject = tuple[str, ...]
"""Resource that a metric describes: (endpoint, variant) or (inference component,)."""
_MAX_VALUES = 150
"""Most distinct values in one metric datum (PutMetricData API reference)."""


@dataclass
class _Minute:
    invocations: int = 0
    client_errors: int = 0
    server_errors: int = 0
    refused: int = 0
    model_cache_hits: Counter[float] = field(default_factory=Counter)
    microseconds: defaultdict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Usage sample. minute: when it was taken. busy: processor seconds up to then. moment: monotonic clock, seconds."""

    minute: int
    busy: float
    moment: float


class VariantMetrics:
    """Recorder of SageMaker's metrics on a multi-model variant's models; see ModelMetrics.

    minute: returns the period that is being collected, which may change while a model loads.
    """

    def __init__(self, minute: Callable[[], _Minute]) -> None:
        self._minute = minute

    def model_cache(self, *, hit: bool) -> None:
        """Record whether a request found its model loaded."""
        self._minute().model_cache_hits[float(hit)] += 1

    def model_time(self, metric: str, seconds: float) -> None:
        """Record one of SageMaker's model loading metrics, by its CloudWatch name."""
        self._minute().microseconds[metric][_rounded(seconds * 1e6)] += 1


class Metrics:
    """Collector of the runtime's measurements per variant and component, sent to the account's CloudWatch.

    clock: returns seconds since 1970. invocations, refusals: counts since the start. A refusal is a request to a
    component without a copy that could take it.
    """

    def __init__(self, control: ControlPlane, clock: Callable[[], float] = time.time) -> None:
        self._control, self._clock = control, clock
        self._scale = time_scale()
        self._minutes: dict[Subject, _Minute] = defaultdict(_Minute)
        self.invocations: Counter[Subject] = Counter()
        self.refusals: Counter[Subject] = Counter()
        self._samples: dict[tuple[int, float], _Sample] = {}

    def record(self, subject: Subject, status: int, model_us: float, overhead_us: float) -> None:
        """Record one invocation: its HTTP status, and both latencies in microseconds."""
        minute = self._minutes[subject]
        minute.invocations += 1
        self.invocations[subject] += 1
        minute.client_errors += 400 <= status < 500
        minute.server_errors += status >= 500
        minute.microseconds["ModelLatency"][_rounded(model_us)] += 1
        minute.microseconds["OverheadLatency"][_rounded(overhead_us)] += 1

    def refuse(self, component: str) -> None:
        """Record a request that found no copy of its inference component."""
        self._minutes[component,].refused += 1
        self.refusals[component,] += 1

    def of(self, subject: Subject) -> VariantMetrics:
        """Return the recorder of a variant's model loading metrics."""
        return VariantMetrics(lambda: self._minutes[subject])

    async def publish_forever(self) -> None:
        """Publish once per period: a minute, or a minute of the alarms' scaled time during and after an update."""
        published = followed = time.monotonic()
        period = PERIOD_SECONDS / self._scale
        while True:
            await asyncio.sleep(min(1.0, period))
            now = time.monotonic()
            if self._control.rollouts or self._control.components.rollouts:
                # Errors in an update's last requests must not be left over for the next update's alarms.
                followed = now + _FOLLOWED_PERIODS * period
            if now - published >= (period if now < followed else PERIOD_SECONDS):
                published = now
                await self.publish()

    async def publish(self) -> None:
        """Publish what was collected since the last call, plus one usage sample per instance and minute.

        As on AWS, an instance sends one sample per minute, so the sample count is the instance count.
        """
        minutes, self._minutes = self._minutes, defaultdict(_Minute)
        data: dict[str, list[MetricDatumTypeDef]] = {
            "AWS/SageMaker": [datum for item in minutes.items() for datum in self._invocations(*item)],
            "/aws/sagemaker/Endpoints": self._loaded_models() + self._utilization(),
            "/aws/sagemaker/InferenceComponents": self._component_utilization(),
        }
        minute = self._minute()
        self._samples = {key: sample for key, sample in self._samples.items() if sample.minute >= minute - 1}
        try:
            await asyncio.to_thread(_put, data)
        except (ClientError, BotoCoreError):
            logger.warning("the emulator did not accept this minute's metrics")

    def _fleet(self, subject: Subject) -> VariantFleet | None:
        if len(subject) == 1:
            return self._control.components.copies(subject[0])
        fleet = self._control.fleets.get(subject[0])
        return fleet.variants.get(subject[1]) if fleet is not None else None

    def _invocations(self, subject: Subject, minute: _Minute) -> "list[MetricDatumTypeDef]":
        fleet = self._fleet(subject)
        replicas = len(fleet.ready) if fleet is not None else 1
        values = {
            "Invocations": minute.invocations,
            rate_metric(subject): minute.invocations / max(1, replicas),
            "Invocation4XXErrors": minute.client_errors,
            "Invocation5XXErrors": minute.server_errors,
        }
        if minute.refused:
            values["NoCapacityInvocationFailures"] = minute.refused
        dimensions = _dimensions(subject)
        data: list[MetricDatumTypeDef] = [
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
                data.append(
                    {
                        "MetricName": name,
                        "Dimensions": dimensions,
                        "Values": [value for value, _ in part],
                        "Counts": [float(count) for _, count in part],
                        "Unit": unit,
                    }
                )
        return data

    def _utilization(self) -> "list[MetricDatumTypeDef]":
        data: list[MetricDatumTypeDef] = []
        disk = psutil.disk_usage("/").percent
        for endpoint, fleet in self._control.fleets.items():
            for variant in fleet.variants.values():
                for replica in variant.ready:
                    with contextlib.suppress(psutil.Error):
                        used = self._use(replica.pid)
                        if used is None:
                            continue
                        processor, memory = used
                        values = {
                            "CPUUtilization": processor,
                            "MemoryUtilization": 100 * memory / psutil.virtual_memory().total,
                            "DiskUtilization": disk,
                        }
                        data += [
                            {
                                "MetricName": name,
                                "Dimensions": _dimensions((endpoint, variant.name)),
                                "Value": value,
                                "Unit": "Percent",
                            }
                            for name, value in values.items()
                        ]
        return data

    def _minute(self) -> int:
        return int(self._clock() // PERIOD_SECONDS)

    def _use(self, pid: int) -> tuple[float, float] | None:
        """Return percent of one processor since the last sample, and bytes of memory, of a replica and its children.

        Returns None if this minute already has its sample. Raises psutil.Error for a process that is gone.
        """
        main = psutil.Process(pid)
        # A process ID may be reused; together with its start time it is unique.
        key, minute = (pid, main.create_time()), self._minute()
        earlier = self._samples.get(key)
        if earlier is not None and earlier.minute == minute:
            return None
        busy, memory = 0.0, 0.0
        for process in (main, *main.children(recursive=True)):
            # A child may end while it is being read.
            with contextlib.suppress(psutil.NoSuchProcess) if process != main else contextlib.nullcontext():
                times = process.cpu_times()
                busy += times.user + times.system
                memory += process.memory_info().rss
        now = time.monotonic()
        since = earlier or _Sample(minute, 0.0, now - (self._clock() - key[1]))
        self._samples[key] = _Sample(minute, busy, now)
        return max(0.0, 100 * (busy - since.busy) / max(now - since.moment, 1e-3)), memory

    def _loaded_models(self) -> "list[MetricDatumTypeDef]":
        return [
            {
                "MetricName": "LoadedModelCount",
                "Dimensions": _dimensions((endpoint, variant.name)),
                "Value": float(replica.models.loaded),
                "Unit": "None",
            }
            for endpoint, fleet in self._control.fleets.items()
            for variant in fleet.variants.values()
            for replica in variant.ready
            if replica.models is not None
        ]

    def _component_utilization(self) -> "list[MetricDatumTypeDef]":
        """Return each copy's usage, in percent of what it has reserved."""
        data: list[MetricDatumTypeDef] = []
        for record in self._control.all(COMPONENT):
            name = record["InferenceComponentName"]
            reserved = Compute.of(record["Specification"])
            copies = self._control.components.copies(name)
            for replica in copies.ready if copies is not None else []:
                with contextlib.suppress(psutil.Error):
                    used = self._use(replica.pid)
                    if used is None:
                        continue
                    processor, memory = used
                    values = {"MemoryUtilizationNormalized": memory / 2**20 / reserved.memory_mib}
                    if reserved.cpu_cores:
                        values["CPUUtilizationNormalized"] = processor / 100 / reserved.cpu_cores
                    data += [
                        {
                            "MetricName": metric,
                            "Dimensions": _dimensions((name,)),
                            "Value": 100 * share,
                            "Unit": "Percent",
                        }
                        for metric, share in values.items()
                    ]
        return data


def _rounded(value: float) -> float:
    """Round to three significant digits: enough for a percentile, and few distinct values."""
    return float(f"{value:.3g}")


def rate_metric(subject: Subject) -> str:
    """Return the name of the metric for invocations per minute and instance, or copy."""
    return "InvocationsPerCopy" if len(subject) == 1 else "InvocationsPerInstance"


def dimensions(subject: Subject) -> dict[str, str]:
    """Return the CloudWatch dimensions of a subject's metrics."""
    names = ("InferenceComponentName",) if len(subject) == 1 else ("EndpointName", "VariantName")
    return dict(zip(names, subject, strict=True))


def _dimensions(subject: Subject) -> "list[DimensionTypeDef]":
    return [{"Name": name, "Value": value} for name, value in dimensions(subject).items()]


def _put(data: "dict[str, list[MetricDatumTypeDef]]") -> None:
    cloudwatch = boto3.client("cloudwatch")
    for namespace, metrics in data.items():
        for begin in range(0, len(metrics), 500):
            cloudwatch.put_metric_data(Namespace=namespace, MetricData=metrics[begin : begin + 500])
