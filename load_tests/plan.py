"""A load test as one JSON document, which its master and its workers read alike."""

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
    """Paths on servers, each pair of both a place of its own that requests are sent to by POST.

    urls: http://HOST:PORT or https://HOST.
    """

    kind: Literal["http"] = "http"
    urls: tuple[str, ...] = Field(min_length=1)
    paths: tuple[str, ...] = Field(min_length=1)


class Place(_Part):
    """Where requests of one name go: a name of the statistics, and for HTTP its URL and path."""

    name: str
    url: str = ""
    path: str = ""


class Plan(_Part):
    """All that a load test does.

    level: users in a closed loop; requests a second in an open one. spawn_rate: users a second. seconds: measured,
    after warm_up seconds that are not. requests: end once so many were measured, at the latest after `seconds`; closed
    loop only. pause: seconds between a user's answer and its next request, evenly drawn from this range. workers:
    processes. max_in_flight: of all workers together in an open loop; an arrival beyond it is not sent, and counted.
    connect: seconds until all workers must be there. feed: path or s3:// URL of the requests (load_tests.feed).
    location, machine: what the result is labelled with.
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
                f"workers is {self.workers} and there are {self.course.highest:g} users at the most: give a user to "
                "each, or take fewer workers"
            )
        if self.mode == "open" and self.max_in_flight < self.workers:
            raise ValueError(f"max_in_flight is {self.max_in_flight} for {self.workers} workers: give each one or more")
        if self.mode == "open" and self.requests is not None:
            raise ValueError("requests ends a closed loop: an open loop sends rate times seconds; leave it out")
        if self.pause[0] < 0 or self.pause[1] < self.pause[0]:
            raise ValueError(f"pause is {self.pause}: give the shorter first, and none below 0")
        return self

    @cached_property
    def course(self) -> Course:
        """The level over the whole test, the warm-up included."""
        return course(self.shape, self.level, warm_up=self.warm_up, seconds=self.seconds)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where requests go, in the order in which users are spread over them."""
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
        """Requests that one worker may have in flight: its users, or its share of the bound."""
        if self.mode == "open":
            return self.max_in_flight // self.workers
        return math.ceil(self.course.highest / self.workers) + 1


def share(total: int, part: int, parts: int) -> int:
    """What the part of that number, from 0, gets of a total that is split as evenly as it goes."""
    return total // parts + (1 if part < total % parts else 0)
