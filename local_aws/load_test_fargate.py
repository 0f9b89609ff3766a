"""`inference load-test --on fargate`: what the deployment has for it, and what a run costs."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from containers.load_test.contract import KEPT_DAYS
from load_tests.closed_loop import Request
from load_tests.plan import Plan
from local_aws.deployed import stack_outputs
from sizing.fargate import Usage, fargate_price
from sizing.prices import PriceError
from stacks.load_test_settings import LoadTest
from stacks.settings import Deployment

if TYPE_CHECKING:
    from load_tests.fargate import FargateRun
    from load_tests.launch import Event
    from load_tests.result import LoadResult

STACK = "load_test"


def settings_of(deployment: Deployment) -> LoadTest:
    """The deployment's settings of load tests on Fargate; raises ValueError without any."""
    if deployment.load_test is None:
        raise ValueError(
            f"on is 'fargate' and the deployment {deployment.environment} has no load_test: add `load_test: {{}}` to "
            "its file and deploy it, or leave --on out to load from this machine"
        )
    return deployment.load_test


def check(settings: LoadTest, plan: Plan) -> None:
    """Raises ValueError for a plan that the stack cannot run."""
    if plan.workers > settings.max_workers:
        raise ValueError(
            f"workers is {plan.workers} and load_test.max_workers {settings.max_workers}: take fewer, or raise it"
        )
    if plan.location == "aws" and plan.target.kind == "http" and settings.vpc is None:
        raise ValueError(
            f"endpoint {plan.endpoint} is asked by HTTP at {', '.join(plan.target.urls)}, which the load test's own "
            "network does not reach: set load_test.vpc to subnets and security groups that do"
        )


def describe(settings: LoadTest, workers: int) -> str:
    """The clients of a result from AWS."""
    return f"Fargate, {workers} workers of {settings.vcpus:g} vCPUs and {settings.memory_gib:g} GB"


def run_on_fargate(
    deployment: Deployment,
    plan: Plan,
    requests: Iterable[Request],
    folder: Path,
    on_event: "Callable[[Event], object]",
) -> "LoadResult":
    """Runs a plan on the deployed stack and says on stderr what it took; raises what load_tests.fargate.run does."""
    # The command checks what it was given before it needs the extra `load`, which these do.
    from load_tests.fargate import Capacity, run
    from load_tests.fargate_tasks import Cluster

    settings = settings_of(deployment)
    done = run(
        plan,
        requests,
        folder,
        Cluster.of(stack_outputs(deployment, STACK)),
        Capacity(spot=settings.spot, on_demand_instead=settings.without_spot == "on_demand"),
        on_event,
        lambda text: print(text, file=sys.stderr),
    )
    print(cost_line(settings, done, boto3.session.Session().region_name or ""), file=sys.stderr)
    print(f"its plan, requests and result are in {done.url}/ for {KEPT_DAYS} days", file=sys.stderr)
    return done.result


def cost_line(settings: LoadTest, done: "FargateRun", region: str) -> str:
    """What the tasks of a run took and cost, in one line that names the price's day and source."""
    size = {"vcpus": settings.vcpus, "memory_gb": settings.memory_gib}
    usage = Usage.of((task.seconds for task in done.tasks), **size)
    spot = Usage.of((task.seconds for task in done.tasks if task.spot), **size)
    took = f"{len(done.tasks)} tasks took {usage.vcpu_hours:.3f} vCPU hours and {usage.gb_hours:.3f} GB hours"
    try:
        price = fargate_price(region)
    except PriceError as error:
        return f"{took}; what they cost is not known: {error}"
    if done.result.location == "local":
        return f"{took} here, which on Fargate would cost ${usage.usd(price):.4f} ({price.source}, {price.as_of})"
    less = f", less Spot's discount on ${spot.usd(price):.4f} of it" if spot.vcpu_hours else ""
    return f"{took}: ${usage.usd(price):.4f}{less} ({price.source}, {price.as_of})"
