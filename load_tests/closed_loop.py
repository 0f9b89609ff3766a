"""A closed loop with one client and one request at a time: the published measurement without its mistakes."""

import itertools
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient
    from mypy_boto3_sagemaker_runtime.type_defs import InvokeEndpointInputTypeDef

_Case = TypeVar("_Case", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Target:
    """A production variant of an endpoint, or an inference component on it."""

    endpoint: str
    variant: str
    component: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A body to send, the content type to accept, and the target model if the endpoint has several."""

    body: bytes
    content_type: str
    accept: str = "*/*"
    target_model: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latencies in seconds that one client saw, in the order of its requests, all of them successful."""

    latencies: tuple[float, ...]

    def percentile_ms(self, percent: int) -> float:
        """Return a latency percentile, 1 to 99, in milliseconds (statistics.quantiles, inclusive method)."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1000

    @property
    def queries_per_second(self) -> float:
        """Number of requests over the time they took, excluding the client's own pauses between them."""
        return len(self.latencies) / sum(self.latencies)


def client(connections: int = 64, read_seconds: float = 60.0) -> "SageMakerRuntimeClient":
    """Return a runtime client that never retries, so a failure cannot hide as a slow response.

    connections: size of the pool of kept-alive connections, at least the number of requests in flight.
    read_seconds: longest wait for bytes of a response.
    """
    return boto3.client(
        "sagemaker-runtime",
        config=Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=connections,
            read_timeout=read_seconds,
            tcp_keepalive=True,
        ),
    )


def measure(
    runtime: "SageMakerRuntimeClient",
    cases: Mapping[_Case, tuple[Target, Sequence[Request]]],
    *,
    seconds: float,
    warm_up: int = 10,
    on_round: Callable[[], object] = lambda: None,
) -> Mapping[_Case, Measurement]:
    """Measure every case for `seconds`, in alternating half-second turns that spread machine drift over all cases.

    A case is a target and its requests, repeated in order. Errors of the client library pass through.
    """
    measured: dict[_Case, list[float]] = {case: [] for case in cases}
    feeds: dict[_Case, Iterator[Request]] = {case: itertools.cycle(requests) for case, (_, requests) in cases.items()}
    for target, requests in cases.values():
        for request in itertools.islice(itertools.cycle(requests), warm_up):
            invoke(runtime, target, request)
    while any(sum(latencies) < seconds for latencies in measured.values()):
        for case, (target, _) in cases.items():
            turn = 0.0
            while turn < 0.5:
                started = time.perf_counter()
                invoke(runtime, target, next(feeds[case]))
                latency = time.perf_counter() - started
                measured[case].append(latency)
                turn += latency
        on_round()
    return {case: Measurement(tuple(latencies)) for case, latencies in measured.items()}


def invoke(runtime: "SageMakerRuntimeClient", target: Target, request: Request) -> bytes:
    """Send a request and return the response's body; errors of the client library pass through."""
    arguments: InvokeEndpointInputTypeDef = {
        "EndpointName": target.endpoint,
        "ContentType": request.content_type,
        "Accept": request.accept,
        "Body": request.body,
    }
    if target.component is None:
        arguments["TargetVariant"] = target.variant
    else:
        arguments["InferenceComponentName"] = target.component
    if request.target_model is not None:
        arguments["TargetModel"] = request.target_model
    response = runtime.invoke_endpoint(**arguments)
    return response["Body"].read()
