"""A real endpoint of a local account, its scaling, and traffic at given rates."""

import contextlib
import io
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.account import local_account
from benchmarks.errors import BenchmarkError
from load_tests.closed_loop import Request, Target, client, invoke
from local_aws.account import ACCOUNT_ID, REGION, TIME_SCALE_VARIABLE, environment_variables
from local_aws.hosting.images import Image
from sizing.autoscaling import Bounds, TargetTracking
from sizing.service_times import ServiceTimes
from sizing.simulation.observed import Look
from sizing.simulation.traffic import Trace

TARGET = Target("watched", "AllTraffic")
BOUNDS = Bounds(1, 4)
POLICY = TargetTracking(600, scale_out_cooldown=60, scale_in_cooldown=300)
"""600 invocations per minute per instance: half of what the container sustains."""
TIME_SCALE = 60
"""A minute of the alarms' time passes in one second."""
_RESOURCE = f"endpoint/{TARGET.endpoint}/variant/{TARGET.variant}"
_ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/any"
_IMAGE = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/timed:1"
_REQUEST = Request(body=b"{}", content_type="application/json")
_CLIENTS = 256
_ALONE = 200
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Watched:
    """A run: observations of the endpoint, latencies in ms from the scheduled time, and the number of failures."""

    trace: Trace
    looks: tuple[Look, ...]
    latencies_ms: tuple[float, ...]
    failed: int

    def percentile_ms(self, percent: float) -> float:
        """Return a latency percentile of the answered requests, in milliseconds."""
        return float(np.percentile(self.latencies_ms, percent))


@contextlib.contextmanager
def endpoint(cache: Path, folder: Path) -> Iterator[None]:
    """Run an endpoint with one instance in its own local account until the block ends; raises BenchmarkError."""
    with environment_variables({TIME_SCALE_VARIABLE: str(TIME_SCALE)}), local_account(folder / "state", cache):
        _deploy(folder)
        yield


def service_times() -> ServiceTimes:
    """Measure the response times of a single client, which include the service time and the overhead around it."""
    runtime = client()
    samples = []
    for _ in range(_ALONE):
        begin = time.perf_counter()
        invoke(runtime, TARGET, _REQUEST)
        samples.append(1000 * (time.perf_counter() - begin))
    return ServiceTimes.of_samples(samples)


def starting_seconds() -> float:
    """Return the seconds from requesting the most instances until they are in service; then go back to the fewest."""
    begin = time.perf_counter()
    _resize(BOUNDS.maximum)
    took = time.perf_counter() - begin
    _resize(BOUNDS.minimum)
    return took


def drive(trace: Trace, seed: int, on_look: Callable[[Look], object] = lambda _: None) -> Watched:
    """Send a trace's requests when they are due, regardless of responses, while target tracking scales the endpoint."""
    scaling = boto3.client("application-autoscaling")
    due = np.concatenate([times for _, times in trace.arrivals(np.random.default_rng(seed))]).tolist()
    sent = _Sent()
    scaling.register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=_RESOURCE,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=BOUNDS.minimum,
        MaxCapacity=BOUNDS.maximum,
    )
    scaling.put_scaling_policy(
        PolicyName="follow",
        PolicyType="TargetTrackingScaling",
        ServiceNamespace="sagemaker",
        ResourceId=_RESOURCE,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": POLICY.target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            "ScaleOutCooldown": round(POLICY.scale_out_cooldown),
            "ScaleInCooldown": round(POLICY.scale_in_cooldown),
        },
    )
    begin = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        sender = threading.Thread(target=sent.send, args=(due, begin, clients), daemon=True)
        sender.start()
        looks = []
        while (now := time.perf_counter() - begin) < trace.seconds:
            looks.append(Look(now, *_instances(), sent.begun))
            on_look(looks[-1])
            time.sleep(_LOOK_SECONDS)
        sender.join()
    scaling.deregister_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=_RESOURCE,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
    )
    _resize(BOUNDS.minimum)
    return Watched(trace, tuple(looks), tuple(sent.latencies_ms), sent.failed)


class _Sent:
    """Requests sent so far."""

    def __init__(self) -> None:
        self.begun = self.failed = 0
        self.latencies_ms: list[float] = []
        self._runtime = client(_CLIENTS)

    def send(self, due: list[float], begin: float, clients: ThreadPoolExecutor) -> None:
        """Send each request when it is due."""
        for seconds in due:
            time.sleep(max(0.0, begin + seconds - time.perf_counter()))
            self.begun += 1
            clients.submit(self._ask, begin + seconds)

    def _ask(self, scheduled: float) -> None:
        try:
            invoke(self._runtime, TARGET, _REQUEST)
        except (BotoCoreError, ClientError):
            self.failed += 1
        else:
            self.latencies_ms.append(1000 * (time.perf_counter() - scheduled))


def _deploy(folder: Path) -> None:
    server = Path(__file__).with_name("server.py")
    image = Image(str(server.parent), "/", (sys.executable, str(server)), {}, sys.prefix)
    image.save(folder / "state", "timed:1")
    boto3.client("s3").create_bucket(Bucket="models")
    boto3.client("s3").put_object(Bucket="models", Key="none/model.tar.gz", Body=_archive())
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_model(
        ModelName="timed",
        ExecutionRoleArn=_ROLE,
        PrimaryContainer={"Image": _IMAGE, "ModelDataUrl": "s3://models/none/model.tar.gz"},
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="timed",
        ProductionVariants=[
            {
                "VariantName": TARGET.variant,
                "ModelName": "timed",
                "InstanceType": "ml.c6i.large",
                "InitialInstanceCount": BOUNDS.minimum,
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=TARGET.endpoint, EndpointConfigName="timed")
    _wait()


def _archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz"):
        pass
    return content.getvalue()


def _resize(count: int) -> None:
    if _instances() != (count, count):
        _wait()
        boto3.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName=TARGET.endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": TARGET.variant, "DesiredInstanceCount": count}],
        )
        _wait()


def _wait() -> None:
    sagemaker = boto3.client("sagemaker")
    deadline = time.monotonic() + 60
    while (status := sagemaker.describe_endpoint(EndpointName=TARGET.endpoint)["EndpointStatus"]) != "InService":
        if status == "Failed" or time.monotonic() > deadline:
            raise BenchmarkError(f"the endpoint is {status}: see `inference local logs`")
        time.sleep(0.05)


def _instances() -> tuple[int, int]:
    (variant,) = boto3.client("sagemaker").describe_endpoint(EndpointName=TARGET.endpoint)["ProductionVariants"]
    return variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]
