"""What CloudWatch has of an endpoint's metrics."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import boto3

from load_tests.closed_loop import Target

SAGEMAKER = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sum, number and largest of a metric's samples."""

    sum: float
    count: float
    maximum: float

    @property
    def average(self) -> float:
        """Mean sample; 0 without any."""
        return self.sum / self.count if self.count else 0.0

    def since(self, before: "Totals") -> "Totals":
        """What was added after an earlier reading; the maximum stays that of all."""
        return Totals(self.sum - before.sum, self.count - before.count, self.maximum)


def totals(target: Target, metric: str, *, namespace: str = SAGEMAKER, hours: int = 24) -> Totals:
    """A metric of a variant over the last hours; times are in microseconds, as SageMaker publishes them."""
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
