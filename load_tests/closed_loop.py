"""One client, one request at a time: the published measurement, with its mistakes left out."""

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
    """A body to send, what to have back, and the model to ask where the endpoint has several."""

    body: bytes
    content_type: str
    accept: str = "*/*"
    target_model: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latencies in seconds that one client saw, in the order of its requests; no request failed."""

    latencies: tuple[float, ...]

    def percentile_ms(self, percent: int) -> float:
        """A percentile in milliseconds, 1 to 99, by statistics.quantiles' inclusive method."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1000

    @property
    def queries_per_second(self) -> float:
        """Requests by the time they took; the client's own pauses between them are left out."""
        return len(self.latencies) / sum(self.latencies)


def client(connections: int = 64, read_seconds: float = 60.0) -> "SageMakerRuntimeClient":
    """A runtime client that retries nothing, so that no failure hides as a slow answer.

    connections: kept open, no fewer than requests in flight. read_seconds: longest wait for bytes of an answer.
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
    """Measures every case in turns of half a second for `seconds` each, so that a drifting machine favours none.

    A case is a target and the requests that it gets, over and over in their order. Errors of the client library pass
    through.
    """
    found: dict[_Case, list[float]] = {case: [] for case in cases}
    feeds: dict[_Case, Iterator[Request]] = {case: itertools.cycle(requests) for case, (_, requests) in cases.items()}
    for target, requests in cases.values():
        for request in itertools.islice(itertools.cycle(requests), warm_up):
            invoke(runtime, target, request)
    while any(sum(latencies) < seconds for latencies in found.values()):
        for case, (target, _) in cases.items():
            turn = 0.0
            while turn < 0.5:
                started = time.perf_counter()
                invoke(runtime, target, next(feeds[case]))
                latency = time.perf_counter() - started
                found[case].append(latency)
                turn += latency
        on_round()
    return {case: Measurement(tuple(latencies)) for case, latencies in found.items()}


def invoke(runtime: "SageMakerRuntimeClient", target: Target, request: Request) -> bytes:
    """The answer's body; errors of the client library pass through."""
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
    answer = runtime.invoke_endpoint(**arguments)
    return answer["Body"].read()
