"""Load an endpoint and record how its instances follow the load."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from load_tests.closed_loop import Request, Target, client, invoke

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


@dataclass(frozen=True, slots=True)
class Policy:
    """A target tracking policy: metric, target value, and the bounds of the number of instances or copies."""

    metric: str
    target: float
    min_capacity: int
    max_capacity: int


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of the endpoint at one moment.

    seconds: since the start. loaded: whether requests are being sent. desired, current: instances, or an inference
    component's copies. per_instance: the tracked metric as clients see it: invocations per minute and instance, or
    concurrent requests per instance. answered, failed: number of requests so far.
    """

    seconds: float
    loaded: bool
    desired: int
    current: int
    per_instance: float
    answered: int
    failed: int


class NoPolicyError(LookupError):
    """The endpoint has no target tracking policy; the message says what to set."""


def read_policy(target: Target) -> Policy:
    """Return the target tracking policy of a variant or inference component; raises NoPolicyError."""
    scaling = boto3.client("application-autoscaling")
    resource = (
        f"endpoint/{target.endpoint}/variant/{target.variant}"
        if target.component is None
        else f"inference-component/{target.component}"
    )
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)["ScalingPolicies"]
    tracking = [
        policy["TargetTrackingScalingPolicyConfiguration"]
        for policy in policies
        if policy["PolicyType"] == "TargetTrackingScaling"
    ]
    if not targets or not tracking:
        raise NoPolicyError(
            f"{target.endpoint}/{target.variant} has no target tracking: give its endpoint scaling with "
            "target_invocations_per_instance or target_concurrent_requests_per_model (with an inference component "
            "target_invocations_per_copy or target_concurrent_requests_per_copy)"
        )
    return Policy(
        tracking[0]["PredefinedMetricSpecification"]["PredefinedMetricType"],
        tracking[0]["TargetValue"],
        targets[0]["MinCapacity"],
        targets[0]["MaxCapacity"],
    )


class Load:
    """Clients in a closed loop: each sends its next request after the response to its last one, until stopped.

    pause: seconds between a response and the next request.
    """

    def __init__(self, target: Target, requests: Sequence[Request], clients: int, pause: float) -> None:
        self.answered, self.failed = 0, 0
        self._target, self._pause = target, pause
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        feed = itertools.cycle(requests)
        self._threads = [threading.Thread(target=self._run, args=(feed,), daemon=True) for _ in range(clients)]

    def start(self) -> None:
        """Start to send requests."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, once every client has its response."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def clients(self) -> int:
        """Most requests in flight."""
        return len(self._threads)

    def _run(self, feed: "itertools.cycle[Request]") -> None:
        runtime = client()
        while not self._stopped.is_set():
            with self._lock:
                request = next(feed)
            try:
                invoke(runtime, self._target, request)
            except (ClientError, BotoCoreError):
                with self._lock:
                    self.failed += 1
            else:
                with self._lock:
                    self.answered += 1
            self._stopped.wait(self._pause)


def watch(
    target: Target,
    policy: Policy,
    load: Load,
    *,
    load_seconds: float,
    limit_seconds: float,
    time_scale: float,
    on_moment: Callable[[Moment], object],
) -> list[Moment]:
    """Load the endpoint until it reaches its maximum capacity, then wait for its minimum; return every moment.

    load_seconds: longest time under load. limit_seconds: longest time in all. time_scale: speed-up of the alarms' time
    over the clock. Errors of the client library pass through.
    """
    sagemaker = boto3.client("sagemaker")
    began = time.monotonic()
    moments: list[Moment] = []
    window: list[tuple[float, int]] = [(0.0, 0)]
    load.start()
    loaded = True
    try:
        while True:
            wanted, running = _counts(sagemaker, target)
            now = time.monotonic() - began
            window = [point for point in window if point[0] >= now - 60 / time_scale] or window[-1:]
            current = max(1, running)
            if "Invocations" in policy.metric:
                span = max(now - window[0][0], 1e-3)
                per_instance = (load.answered + load.failed - window[0][1]) / span * 60 / current
            else:
                per_instance = load.clients / current if loaded else 0.0
            window.append((now, load.answered + load.failed))
            moment = Moment(
                now,
                loaded,
                wanted,
                running,
                per_instance,
                load.answered,
                load.failed,
            )
            moments.append(moment)
            on_moment(moment)
            if loaded and (moment.current >= policy.max_capacity or now >= load_seconds):
                load.stop()
                loaded = False
            elif not loaded and moment.current <= policy.min_capacity:
                return moments
            if now >= limit_seconds:
                return moments
            time.sleep(0.5)
    finally:
        load.stop()


def _counts(sagemaker: "SageMakerClient", target: Target) -> tuple[int, int]:
    """Return the desired and the current number of instances, or of copies."""
    if target.component is not None:
        component = sagemaker.describe_inference_component(InferenceComponentName=target.component)
        return component["RuntimeConfig"]["DesiredCopyCount"], component["RuntimeConfig"]["CurrentCopyCount"]
    (variant,) = (
        each
        for each in sagemaker.describe_endpoint(EndpointName=target.endpoint)["ProductionVariants"]
        if each["VariantName"] == target.variant
    )
    return variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]
