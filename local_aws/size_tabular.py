"""`inference size tabular`: which instance holds the working set, and whether a running endpoint agrees."""

import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load_tests import tabular
from load_tests.closed_loop import Request, Target, client, invoke
from load_tests.cloudwatch import ModelCacheReading, read_model_cache
from local_aws.account import LocalAccount, default_state
from local_aws.cli import fail
from local_aws.deployed import list_objects, read_object, stack_outputs
from model_build.tabular.schema import STATES
from sizing.instances import instance
from sizing.prices import price, priced_types
from sizing.profiles import ProfileError, ServiceProfile
from sizing.recommend import RecommendError
from sizing.size import WORKLOADS, show, write
from sizing.size import size as recommended
from sizing.working_set import (
    Candidate,
    Popularity,
    Prediction,
    WorkingSetError,
    Workload,
    memory_for_models_mib,
    parse_counts,
    predict,
    slots_for,
    smallest_instance,
    uniform,
    zipf,
)
from stacks.settings import ONLY_VARIANT, Deployment, DeploymentError, MultiModelEndpoint, Tabular

WORKLOAD = "tabular"
CONTAINER_MIB = 47.0
"""Resident memory of this project's container without a model, measured on Linux x86-64 with Python 3.11."""
MODEL_MIB = 0.1
"""What a churn model takes in this project's container, measured; a deployment's memory_per_model_mib goes before."""
LOAD_MS, SERVICE_MS = 8.0, 1.0
"""ModelLoadingWaitTime and ModelLatency of the local account on two cores; --check measures them anew."""
TOLERANCE = 0.03
"""Largest difference between predicted and measured hit rate that counts as agreement."""
_CLOUDWATCH_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Check:
    """A prediction beside what an endpoint did."""

    endpoint: str
    instance_type: str
    predicted: Prediction
    measured: ModelCacheReading

    @property
    def difference(self) -> float:
        """Measured less predicted hit rate."""
        return self.measured.hits.average - self.predicted.hit_rate


def size(
    requests: Annotated[
        str, typer.Option(help="uniform, zipf, or a CSV file with columns target_model,count")
    ] = "uniform",
    models: Annotated[int, typer.Option(min=1, help="models, without a CSV file")] = len(STATES),
    exponent: Annotated[float, typer.Option(help="of zipf: the n-th model's share falls as n**-exponent")] = 1.0,
    deployment: Annotated[
        str, typer.Option(help="a name in deployments/, or a path; its memory_per_model_mib counts")
    ] = "dev",
    model_mib: Annotated[float | None, typer.Option(help="memory per model in MiB instead of the deployment's")] = None,
    container_mib: Annotated[float, typer.Option(help="memory of the container without a model")] = CONTAINER_MIB,
    load_ms: Annotated[float, typer.Option(help="wait for a model that is not loaded")] = LOAD_MS,
    service_ms: Annotated[float, typer.Option(help="a request's time when its model is loaded")] = SERVICE_MS,
    rate: Annotated[float, typer.Option(help="requests a second of the whole endpoint; 0 where unknown")] = 0.0,
    instances: Annotated[int, typer.Option(min=1, help="instances behind the endpoint")] = 1,
    target: Annotated[float, typer.Option(help="hit rate wanted, up to 1")] = 0.99,
    region: Annotated[str, typer.Option(help="region of the prices")] = "us-east-1",
    check: Annotated[bool, typer.Option("--check", help="drive the deployed endpoints and compare")] = False,
    endpoint: Annotated[list[str] | None, typer.Option(help="with --check, only this one; may be repeated")] = None,
    check_requests: Annotated[int, typer.Option(min=200, help="requests to each endpoint with --check")] = 3000,
    state: Annotated[Path | None, typer.Option(help="folder of the local account's state, for --check")] = None,
    p99: Annotated[float | None, typer.Option(help="with --rate: ms that 99 of 100 answers must keep")] = None,
    measured: Annotated[Path | None, typer.Option(help="with --p99: JSON file of profiles, not the recorded")] = None,
    output: Annotated[Path, typer.Option(help="with --p99: folder of figures and picture")] = Path("build/size"),
) -> None:
    """Predicts hit rate, loading wait and the smallest sufficient instance of the multi-model endpoint.

    With --rate and --p99 it recommends hosting, instance type, count and scaling as well.

    With --check every endpoint of the deployment gets requests of that distribution, from the local account that
    runs or, without one, from the AWS account of the environment; exit code 1 when a prediction is off.
    """
    try:
        settings = Deployment.named(deployment)
        churn = settings.workloads.tabular
        if churn is None:
            fail(f"deployment {deployment} has no tabular: choose another with --deployment")
        workload = Workload(
            popularity=_popularity(requests, models, exponent),
            model_mib=churn.memory_per_model_mib or MODEL_MIB if model_mib is None else model_mib,
            load_ms=load_ms,
            service_ms=service_ms,
            requests_per_second=rate,
            instances=instances,
        )
        candidates = [
            Candidate(price(region, kind), memory_for_models_mib(instance(kind).memory_gib * 1024, container_mib))
            for kind in priced_types(region)
            if instance(kind).accelerators == 0
        ]
        _print_sizes(workload, candidates, target)
        if p99 is not None:
            _recommend(workload, candidates, target, p99, measured, region, output)
        if check:
            endpoints = _chosen(churn, endpoint)
            _point_at_the_local_account(state or default_state())
            _check(settings, endpoints, workload, container_mib, check_requests)
    except (DeploymentError, WorkingSetError, LookupError, ProfileError, RecommendError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the deployed endpoints cannot be asked: {error}; run `scripts/demo tabular --keep` first")


def _popularity(requests: str, models: int, exponent: float) -> Popularity:
    if requests == "uniform":
        return uniform(models)
    if requests == "zipf":
        return zipf(models, exponent)
    try:
        return parse_counts(Path(requests).read_text(), requests)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkingSetError(
            f"requests is {requests!r}: give uniform, zipf, or a CSV file that can be read ({error})"
        ) from None


def _print_sizes(workload: Workload, candidates: Sequence[Candidate], target: float) -> None:
    needed = slots_for(workload.popularity, target)
    table = Table(
        title=f"{len(workload.popularity.probabilities)} models of {workload.model_mib:g} MiB, "
        f"{workload.load_ms:g} ms a load, {workload.service_ms:g} ms a request, "
        f"{workload.instances} instance{'s' if workload.instances > 1 else ''}"
    )
    table.add_column("instance")
    for column in (
        "for models MiB", "models loaded", "hit rate", "loads per 1000", "requests waiting", "mean latency ms",
        "$ an hour",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for candidate in sorted(candidates, key=lambda each: (each.price.usd_per_hour, each.price.instance_type)):
        hourly = f"{candidate.price.usd_per_hour * workload.instances:.3f}"
        name = candidate.price.instance_type
        if candidate.models_mib < workload.model_mib:
            table.add_row(name, f"{candidate.models_mib:,.0f}", "0", "-", "-", "-", "-", hourly)
            continue
        found = predict(workload, candidate.models_mib)
        table.add_row(
            name,
            f"{candidate.models_mib:,.0f}",
            str(min(found.slots, workload.popularity.requested)),
            f"{found.hit_rate:.1%}",
            f"{found.loads_per_1000_requests:.1f}",
            f"{found.waiting_share:.1%}",
            f"{found.mean_latency_ms:.2f}",
            hourly,
        )
    console = _console()
    console.print(table)
    try:
        choice = smallest_instance(workload, candidates, target)
    except WorkingSetError as error:
        console.print(f"no instance type of the price table is enough: {error}")
    else:
        console.print(
            f"a hit rate of {target:.1%} needs {needed} models loaded; cheapest: "
            f"{choice.candidate.price.instance_type}, {choice.prediction.hit_rate:.1%}, "
            f"{choice.usd_per_hour:.3f} $ an hour"
        )


def _recommend(
    workload: Workload,
    candidates: Sequence[Candidate],
    target: float,
    p99: float,
    measured: Path | None,
    region: str,
    output: Path,
) -> None:
    memory = {candidate.price.instance_type: candidate.models_mib for candidate in candidates}

    def unfit(profile: ServiceProfile) -> str | None:
        models_mib = memory.get(profile.instance_type, 0.0)
        if models_mib < workload.model_mib:
            return "not one model fits"
        found = predict(workload, models_mib)
        if found.hit_rate >= target:
            return None
        return f"holds {found.slots} models: a hit rate of {found.hit_rate:.1%}, {target:.1%} wanted"

    sized = recommended(
        WORKLOAD,
        rate=workload.requests_per_second,
        p99=p99,
        measured=measured,
        facts=replace(WORKLOADS[WORKLOAD], models=workload.popularity.requested),
        region=region,
        min_instances=workload.instances,
        unfit=unfit,
    )
    show(sized, _console())
    write(sized, output / WORKLOAD)


def _point_at_the_local_account(state: Path) -> None:
    account = LocalAccount.read(state.absolute())
    if account is not None:
        os.environ.update(account.client_environment())


def _chosen(churn: Tabular, keys: Sequence[str] | None) -> dict[str, MultiModelEndpoint]:
    for key in keys or ():
        if key not in churn.endpoints:
            raise WorkingSetError(f"endpoint is {key!r}: choose from {', '.join(churn.endpoints)}")
    return {key: endpoint for key, endpoint in churn.endpoints.items() if not keys or key in keys}


def _check(
    settings: Deployment,
    endpoints: Mapping[str, MultiModelEndpoint],
    workload: Workload,
    container_mib: float,
    count: int,
) -> None:
    models = stack_outputs(settings, WORKLOAD)["Models"]
    archives = list_objects(models)
    wanted = len(workload.popularity.probabilities)
    if wanted > len(archives):
        raise WorkingSetError(f"models is {wanted}: {len(archives)} are deployed; check with as many or fewer")
    customers = tabular.read_customers(read_object(models.removesuffix("models/") + "requests.csv"))
    drawn = random.Random(0).choices(archives[:wanted], workload.popularity.probabilities, k=count + 20 * wanted)
    sent = [tabular.request(archive, customers[:1]) for archive in drawn]
    checks = []
    for key, endpoint in endpoints.items():
        target = Target(settings.endpoint_name(WORKLOAD, key), ONLY_VARIANT)
        measured = _drive(target, sent, warm_up=20 * wanted)
        memory = memory_for_models_mib(instance(endpoint.instance_type).memory_gib * 1024, container_mib)
        checks.append(Check(target.endpoint, endpoint.instance_type, predict(workload, memory), measured))
    _print_checks(checks)
    if any(abs(check.difference) > TOLERANCE for check in checks):
        fail(f"a measured hit rate differs from its prediction by more than {TOLERANCE:.0%}")


def _drive(target: Target, requests: Sequence[Request], warm_up: int) -> ModelCacheReading:
    runtime = client()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"asking {target.endpoint}", total=len(requests))
        for request in requests[:warm_up]:
            invoke(runtime, target, request)
            progress.advance(task)
        before = _settled(target)
        for request in requests[warm_up:]:
            invoke(runtime, target, request)
            progress.advance(task)
        deadline = time.monotonic() + _CLOUDWATCH_SECONDS
        while (measured := read_model_cache(target).since(before)).hits.count < len(requests) - warm_up:
            if time.monotonic() > deadline:
                raise WorkingSetError(
                    f"CloudWatch counts {measured.hits.count:.0f} of {len(requests) - warm_up} requests to "
                    f"{target.endpoint} after {_CLOUDWATCH_SECONDS} s: is something else asking it?"
                )
            time.sleep(1)
    return measured


def _settled(target: Target) -> ModelCacheReading:
    """The reading after the warm-up, once CloudWatch has all of it: two equal readings a period apart on AWS."""
    reading = read_model_cache(target)
    if os.environ.get("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"):
        return reading
    while True:
        time.sleep(90)
        again = read_model_cache(target)
        if again.hits == reading.hits:
            return again
        reading = again


def _print_checks(checks: Sequence[Check]) -> None:
    table = Table(title="prediction and measurement")
    for column in ("endpoint", "instance"):
        table.add_column(column, no_wrap=True)
    for column in (
        "models loaded", "hit rate predicted", "measured", "difference", "evictions per 1000 predicted", "measured",
        "loading wait ms", "model latency ms", "n",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for check in checks:
        measured = check.measured
        table.add_row(
            check.endpoint,
            check.instance_type,
            f"{measured.loaded.maximum:.0f}",
            f"{check.predicted.hit_rate:.1%}",
            f"{measured.hits.average:.1%}",
            f"{check.difference:+.1%}",
            f"{check.predicted.evictions_per_1000_requests:.0f}",
            f"{1000 * measured.unloads.count / measured.hits.count:.0f}",
            f"{measured.waits.average / 1000:.2f}" if measured.waits.count else "-",
            f"{measured.latency.average / 1000:.2f}",
            f"{measured.hits.count:.0f}",
        )
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, markup=False)
