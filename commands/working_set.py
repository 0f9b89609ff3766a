"""`inference working-set`: which instance holds a multi-model endpoint's models, and whether a running one agrees."""

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commands.account import Deployment as DeploymentName
from commands.account import State, selected_account
from commands.output import console, fail
from load_tests.closed_loop import Request, Target, client, invoke
from load_tests.cloudwatch import ModelCacheReading, read_model_cache
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.tabular import CONTAINER_MIB, LOAD_MS, SERVICE_MS, TabularKind, candidates, model_mib_of
from load_tests.payloads import tabular
from load_tests.targets import deployed_workload
from model_build.tabular.schema import STATES
from sizing.instances import instance
from sizing.prices import DEFAULT_REGION
from sizing.text_files import TextFileError, read_text
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
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.hosting import ONLY_VARIANT
from stacks.settings.tabular import Tabular, TabularEndpoint

TOLERANCE = 0.03
"""Largest difference between predicted and measured hit rate that counts as agreement."""
_CLOUDWATCH_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Check:
    """A prediction next to what an endpoint did."""

    endpoint: str
    instance_type: str
    predicted: Prediction
    measured: ModelCacheReading

    @property
    def difference(self) -> float:
        """Measured minus predicted hit rate."""
        return self.measured.hits.average - self.predicted.hit_rate


def working_set(  # noqa: PLR0913 - options of the command
    state: State,
    workload: Annotated[str, typer.Argument(help="name of a tabular workload in the deployment")],
    requests: Annotated[
        str, typer.Option(help="uniform, zipf, or a CSV file with columns target_model,count")
    ] = "uniform",
    models: Annotated[int, typer.Option(min=1, help="models, without a CSV file")] = len(STATES),
    exponent: Annotated[float, typer.Option(help="of zipf: the n-th model's share falls as n**-exponent")] = 1.0,
    deployment: DeploymentName = "dev",
    model_mib: Annotated[float | None, typer.Option(help="memory per model in MiB; default: the deployment's")] = None,
    container_mib: Annotated[float, typer.Option(help="memory of the container without models, MiB")] = CONTAINER_MIB,
    load_ms: Annotated[float, typer.Option(help="milliseconds to load a model")] = LOAD_MS,
    service_ms: Annotated[float, typer.Option(help="milliseconds of a request whose model is loaded")] = SERVICE_MS,
    rate: Annotated[float, typer.Option(help="requests per second of the whole endpoint; 0: unknown")] = 0.0,
    instances: Annotated[int, typer.Option(min=1, help="instances of the endpoint")] = 1,
    target: Annotated[float, typer.Option(help="wanted hit rate, up to 1")] = 0.99,
    region: Annotated[str, typer.Option(help="region of the prices")] = DEFAULT_REGION,
    check: Annotated[bool, typer.Option("--check", help="drive the deployed endpoints and compare")] = False,
    endpoint: Annotated[list[str] | None, typer.Option(help="with --check: only this endpoint; repeatable")] = None,
    check_requests: Annotated[int, typer.Option(min=200, help="with --check: requests to each endpoint")] = 3000,
) -> None:
    """Predict hit rate, loading wait and the smallest sufficient instance of a multi-model endpoint.

    With --check every endpoint of the workload gets requests of that distribution, in the running local account or,
    without one, in the AWS account of the environment; exit code 1 when a prediction is off.
    """
    try:
        deployed = deployed_workload(Deployment.named(deployment), workload)
        if not isinstance(deployed.settings, Tabular):
            fail(f"workload is {workload!r} of kind {deployed.settings.kind}: only kind tabular shares an endpoint")
        modeled = Workload(
            popularity=_popularity(requests, models, exponent),
            model_mib=model_mib_of(deployed.settings) if model_mib is None else model_mib,
            load_ms=load_ms,
            service_ms=service_ms,
            requests_per_second=rate,
            instances=instances,
        )
        _print_sizes(modeled, candidates(region, container_mib), target)
        if check:
            chosen = _chosen(deployed.settings, endpoint)
            with selected_account(state):
                _check(deployed, chosen, modeled, container_mib, check_requests)
    except (DeploymentError, WorkingSetError, LookupError, ValueError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the deployed endpoints cannot be reached: {error}; run `scripts/demo {workload} --keep` first")


def _popularity(requests: str, models: int, exponent: float) -> Popularity:
    if requests == "uniform":
        return uniform(models)
    if requests == "zipf":
        return zipf(models, exponent)
    try:
        return parse_counts(read_text(Path(requests)), requests)
    except (OSError, TextFileError) as error:
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
    wide = console(160)
    wide.print(table)
    try:
        choice = smallest_instance(workload, candidates, target)
    except WorkingSetError as error:
        wide.print(f"no instance type of the price table is enough: {error}")
    else:
        wide.print(
            f"a hit rate of {target:.1%} needs {needed} models loaded; cheapest: "
            f"{choice.candidate.price.instance_type}, {choice.prediction.hit_rate:.1%}, "
            f"{choice.usd_per_hour:.3f} $ an hour"
        )


def _chosen(settings: Tabular, keys: Sequence[str] | None) -> dict[str, TabularEndpoint]:
    for key in keys or ():
        if key not in settings.endpoints:
            raise WorkingSetError(f"endpoint is {key!r}: choose from {', '.join(settings.endpoints)}")
    return {key: endpoint for key, endpoint in settings.endpoints.items() if not keys or key in keys}


def _check(
    deployed: DeployedWorkload[Tabular],
    endpoints: Mapping[str, TabularEndpoint],
    workload: Workload,
    container_mib: float,
    count: int,
) -> None:
    kind = TabularKind()
    archives = kind.archives(deployed)
    wanted = len(workload.popularity.probabilities)
    if wanted > len(archives):
        raise WorkingSetError(f"models is {wanted}: {len(archives)} are deployed; check with as many or fewer")
    customers = kind.customers(deployed)
    drawn = random.Random(0).choices(archives[:wanted], workload.popularity.probabilities, k=count + 20 * wanted)
    sent = [tabular.request(archive, customers[:1]) for archive in drawn]
    checks = []
    for key, endpoint in endpoints.items():
        target = Target(deployed.endpoint_name(key), ONLY_VARIANT)
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
    """Return the reading after the warm-up, once CloudWatch has it all: on AWS, two equal readings a period apart."""
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
    console(160).print(table)
