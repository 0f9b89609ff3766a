"""Load tests on Fargate: the deployment's resources for them, and the cost of a run."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from containers.load_test.contract import KEPT_DAYS
from load_tests.closed_loop import Request
from load_tests.deployed import stack_outputs
from load_tests.plan import Plan
from load_tests.planning import Asked
from load_tests.profiles import profile
from sizing.fargate import Usage, fargate_price
from sizing.prices import PriceError
from stacks.settings.deployment import Deployment
from stacks.settings.load_test import LoadTest

if TYPE_CHECKING:
    from load_tests.fargate import FargateRun
    from load_tests.launch import Event
    from load_tests.result import LoadResult

STACK = "load_test"


def settings_of(deployment: Deployment) -> LoadTest:
    """Return the deployment's settings of load tests on Fargate; raises ValueError without any."""
    if deployment.load_test is None:
        raise ValueError(
            f"on is 'fargate' but the deployment {deployment.environment} has no load_test: add `load_test: {{}}` to "
            "its file and deploy it, or omit --on to send the load from this machine"
        )
    return deployment.load_test


def check(settings: LoadTest, plan: Plan) -> None:
    """Check that the stack can run a plan; raises ValueError."""
    if plan.workers > settings.max_workers:
        raise ValueError(
            f"workers is {plan.workers} and load_test.max_workers is {settings.max_workers}: use fewer, or raise it"
        )
    if plan.location == "aws" and plan.target.kind == "http" and settings.vpc is None:
        raise ValueError(
            f"endpoint {plan.endpoint} is reached by HTTP at {', '.join(plan.target.urls)}, which the load test's own "
            "network cannot reach: set load_test.vpc to subnets and security groups that can"
        )


def describe(settings: LoadTest, asked: Asked) -> str:
    """Describe the clients behind a result from AWS."""
    workers = asked.workers or profile(asked.profile).workers
    return f"Fargate, {workers} workers with {settings.vcpus:g} vCPUs and {settings.memory_gib:g} GB"


def run_on_fargate(
    deployment: Deployment,
    plan: Plan,
    requests: Iterable[Request],
    folder: Path,
    on_event: "Callable[[Event], object]",
) -> "LoadResult":
    """Run a plan on the deployed stack and report its usage on stderr; raises what load_tests.fargate.run does."""
    # Imported here because these need the extra `load`, and the command validates its options without it.
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
    print(f"its plan, requests and result stay in {done.url}/ for {KEPT_DAYS} days", file=sys.stderr)
    return done.result


def cost_line(settings: LoadTest, done: "FargateRun", region: str) -> str:
    """Return the usage and cost of a run's tasks in one line, with the price's date and source."""
    size = {"vcpus": settings.vcpus, "memory_gb": settings.memory_gib}
    usage = Usage.of((task.seconds for task in done.tasks), **size)
    spot = Usage.of((task.seconds for task in done.tasks if task.spot), **size)
    used = f"{len(done.tasks)} tasks used {usage.vcpu_hours:.3f} vCPU hours and {usage.gb_hours:.3f} GB hours"
    try:
        price = fargate_price(region)
    except PriceError as error:
        return f"{used}; their cost is unknown: {error}"
    if done.result.location == "local":
        return f"{used} here, which on Fargate would cost ${usage.usd(price):.4f} ({price.source}, {price.as_of})"
    discount = f", less Spot's discount on ${spot.usd(price):.4f} of it" if spot.vcpu_hours else ""
    return f"{used}: ${usage.usd(price):.4f}{discount} ({price.source}, {price.as_of})"
