"""Plan of a load test, as one JSON document that the master and the workers share."""

import math
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from load_tests.gates import Gate
from load_tests.shapes import Constant, Course, Shape, course

Client = Literal["boto3", "fast"]
Mode = Literal["closed", "open"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SageMakerTarget(_Part):
    """A production variant, or an inference component on it, behind InvokeEndpoint."""

    kind: Literal["sagemaker"] = "sagemaker"
    endpoint: str
    variant: str
    component: str | None = None


class HttpTarget(_Part):
    """HTTP servers: requests are sent by POST to every combination of URL and path.

    urls: http://HOST:PORT or https://HOST.
    """

    kind: Literal["http"] = "http"
    urls: tuple[str, ...] = Field(min_length=1)
    paths: tuple[str, ...] = Field(min_length=1)


class Place(_Part):
    """A destination of requests: a name for the statistics, and for HTTP its URL and path."""

    name: str
    url: str = ""
    path: str = ""


class Plan(_Part):
    """Everything that defines a load test.

    location, machine: labels of the result.
    feed: path or s3:// URL of the requests, as written by load_tests.payloads.file.
    level: users in a closed loop; requests per second in an open loop.
    spawn_rate: users started per second.
    warm_up: warm-up seconds, excluded from the results.
    seconds: measured time after the warm-up.
    requests: number of measured requests that ends the test before `seconds`; closed loop only.
    pause: range in seconds, from which the pause between a user's response and its next request is drawn uniformly.
    workers: number of worker processes.
    max_in_flight: limit on requests in flight over all workers, in an open loop; arrivals beyond it are counted, not
        sent.
    connect: time limit in seconds for all workers to connect.
    """

    workload: str
    endpoint: str
    variant: str | None = None
    instance_type: str | None = None
    location: Literal["local", "aws"]
    machine: str
    target: Annotated[SageMakerTarget | HttpTarget, Field(discriminator="kind")]
    feed: str
    client: Client = "boto3"
    mode: Mode = "closed"
    level: float = Field(gt=0)
    shape: Shape = Constant()
    spawn_rate: float = Field(default=10.0, gt=0)
    warm_up: float = Field(default=5.0, ge=0)
    seconds: float = Field(gt=0)
    requests: int | None = Field(default=None, ge=1)
    pause: tuple[float, float] = (0.0, 0.0)
    workers: int = Field(default=1, ge=1)
    max_in_flight: int = Field(default=1000, ge=1)
    timeout: float = Field(default=70.0, gt=0)
    connect: float = Field(default=120.0, gt=0)
    seed: int = 0
    gates: tuple[Gate, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> "Plan":
        if self.mode == "closed" and self.course.highest < self.workers:
            raise ValueError(
                f"workers is {self.workers} and there are at most {self.course.highest:g} users: each worker needs at "
                "least one user; add users or use fewer workers"
            )
        if self.mode == "open" and self.max_in_flight < self.workers:
            raise ValueError(
                f"max_in_flight is {self.max_in_flight} for {self.workers} workers: give at least one for each worker"
            )
        if self.mode == "open" and self.requests is not None:
            raise ValueError(
                "requests applies to a closed loop only: an open loop sends rate times seconds; leave it out"
            )
        if self.pause[0] < 0 or self.pause[1] < self.pause[0]:
            raise ValueError(f"pause is {self.pause}: give the shorter pause first, and none below 0")
        return self

    @cached_property
    def course(self) -> Course:
        """Level over the whole test, including the warm-up."""
        return course(self.shape, self.level, warm_up=self.warm_up, seconds=self.seconds)

    @property
    def places(self) -> tuple[Place, ...]:
        """Destinations of requests, in the order in which users are spread over them."""
        if isinstance(self.target, SageMakerTarget):
            return (Place(name=self.target.component or self.target.endpoint),)
        several = len(self.target.urls) > 1
        return tuple(
            Place(name=f"{url}{path}" if several else path, url=url, path=path)
            for url in self.target.urls
            for path in self.target.paths
        )

    @property
    def in_flight_of_a_worker(self) -> int:
        """Limit on the requests that one worker has in flight: its users, or its share of the overall limit."""
        if self.mode == "open":
            return self.max_in_flight // self.workers
        return math.ceil(self.course.highest / self.workers) + 1


def share(total: int, part: int, parts: int) -> int:
    """Return the share of one part, numbered from 0, when a total is split as evenly as possible."""
    return total // parts + (1 if part < total % parts else 0)
