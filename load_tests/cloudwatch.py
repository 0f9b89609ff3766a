"""Read an endpoint's metrics from CloudWatch."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import boto3
import httpx

from load_tests.closed_loop import Target
from load_tests.signed_requests import SignedRequests

SAGEMAKER = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sum, count and maximum of a metric's samples."""

    sum: float
    count: float
    maximum: float

    @property
    def average(self) -> float:
        """Mean of the samples; 0 when there are none."""
        return self.sum / self.count if self.count else 0.0

    def since(self, before: "Totals") -> "Totals":
        """Return what was added after an earlier reading; the maximum still covers all samples."""
        return Totals(self.sum - before.sum, self.count - before.count, self.maximum)


def totals(target: Target, metric: str, *, namespace: str = SAGEMAKER, hours: int = 24) -> Totals:
    """Return a variant's metric over the last `hours`; times are in microseconds, as SageMaker publishes them."""
    now = datetime.now(UTC)
    points = boto3.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[
            {"Name": "EndpointName", "Value": target.endpoint},
            {"Name": "VariantName", "Value": target.variant},
        ],
        StartTime=now - timedelta(hours=hours),
        EndTime=now + timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum", "SampleCount", "Maximum"],
    )["Datapoints"]
    return Totals(
        sum(point["Sum"] for point in points),
        sum(point["SampleCount"] for point in points),
        max((point["Maximum"] for point in points), default=0.0),
    )


@dataclass(frozen=True, slots=True)
class ModelCacheReading:
    """Metrics of a multi-model variant's cache up to the time of the reading.

    hits: ModelCacheHit, 1 or 0 per request.
    waits: ModelLoadingWaitTime of the requests that waited.
    unloads: ModelUnloadingTime, one sample per eviction.
    loaded: LoadedModelCount.
    latency: ModelLatency.
    """

    hits: Totals
    waits: Totals
    unloads: Totals
    loaded: Totals
    latency: Totals

    def since(self, before: "ModelCacheReading") -> "ModelCacheReading":
        """Return what was added after an earlier reading."""
        return ModelCacheReading(
            self.hits.since(before.hits),
            self.waits.since(before.waits),
            self.unloads.since(before.unloads),
            self.loaded.since(before.loaded),
            self.latency.since(before.latency),
        )


def read_model_cache(target: Target) -> ModelCacheReading:
    """Read the cache metrics up to now, after making a local account publish its own; AWS publishes once a minute."""
    runtime = os.environ.get("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "")
    if runtime.startswith("http://127.0.0.1:"):
        auth = SignedRequests(os.environ)
        httpx.post(f"{runtime}/_local/publish", auth=auth, trust_env=False, timeout=30).raise_for_status()
    return ModelCacheReading(
        totals(target, "ModelCacheHit"),
        totals(target, "ModelLoadingWaitTime"),
        totals(target, "ModelUnloadingTime"),
        totals(target, "LoadedModelCount", namespace=INSTANCES),
        totals(target, "ModelLatency"),
    )
