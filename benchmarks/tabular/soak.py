"""`python -m benchmarks.tabular.soak`: send hours of traffic to a multi-model endpoint of the local account."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, progress_bar
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.tabular.models import run_build
from benchmarks.tabular.soak_account import (
    INSTANCE_TYPE,
    Running,
    SoakedEndpoint,
    memory_per_model_mib,
    soaked_endpoint,
)
from benchmarks.tabular.soak_answers import Catalogue, contents
from benchmarks.tabular.soak_memory import PROCESSES, Sampler, trend
from benchmarks.tabular.soak_report import Options, Published, Reloaded, SoakResult
from benchmarks.tabular.soak_traffic import ADDED, SHIFTS, Plan, Soak
from load_tests.deployed import list_objects, read_object
from load_tests.kinds.tabular import CONTAINER_MIB
from load_tests.payloads import tabular
from model_build.tabular.schema import STATES
from sizing.instances import instance
from sizing.working_set import Prediction, Workload, memory_for_models_mib, predict, zipf

SLOTS = 20
"""Number of models that fit in memory at once."""
_ADDED_RECIPE = '{"source": {"kind": "generated", "seed": 1}}'
"""Recipe with other customers than the deployment's, so no other model gives the same responses as an added one."""
_CLOUDWATCH_SECONDS = 60
_REFRESH_SECONDS = 0.5
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
)


def main(
    cache: CacheOption,
    requests: Annotated[int, typer.Option(min=5000, help="requests to send")] = 200_000,
    clients: Annotated[int, typer.Option(min=1, help="requests in flight")] = 8,
    zipf_exponent: Annotated[
        float, typer.Option("--zipf", min=0, max=10, help="the n-th most popular model's share falls as n**-zipf")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="of the requests and of what is uploaded")] = 0,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Soak a multi-model endpoint in its own local account: no wrong response, no failed request, memory flat.

    Exits with 1 when any of these fails, and with 2 when nothing could be measured.
    """
    options = Options(
        requests=requests,
        clients=clients,
        zipf_exponent=zipf_exponent,
        seed=seed,
        models=len(STATES),
        slots=SLOTS,
        memory_per_model_mib=memory_per_model_mib(SLOTS),
    )
    with measuring(psutil.Error, httpx.HTTPError, BotoCoreError, ClientError, interrupted="everything is stopped"):
        result, written = _run(options, cache, results)
    conclude(result, written)


def _run(options: Options, cache: Path, results: Path) -> tuple[SoakResult, tuple[Path, Path]]:
    machine = Machine.read()
    with (
        progress_bar(*_COLUMNS) as progress,
        tempfile.TemporaryDirectory(prefix="tabular-soak-") as name,
    ):
        folder = Path(name)
        progress.console.print("starting a local account and deploying the endpoint")
        with soaked_endpoint(options.memory_per_model_mib, cache, folder) as endpoint:
            progress.console.print("asking XGBoost for the right answers")
            soak = _prepare(endpoint, options, folder)
            result = _measure(endpoint, soak, options, machine, progress)
            # Record the result first: it is valid even if the endpoint cannot be destroyed.
            written = result.record(results)
            progress.console.print("destroying the endpoint")
    return result, written


def _prepare(endpoint: SoakedEndpoint, options: Options, folder: Path) -> Soak:
    customers = tabular.read_customers(read_object(endpoint.models.removesuffix("models/") + "requests.csv"))
    names = list_objects(endpoint.models)
    if len(names) != options.models:
        raise BenchmarkError(f"{len(names)} models were deployed, {options.models} are needed")
    deployed = contents([endpoint.get(name) for name in names], customers)
    built = folder / "added"
    built.mkdir()
    archives = sorted((run_build(built, _ADDED_RECIPE) / "models").glob("*.tar.gz"))
    other = contents([archive.read_bytes() for archive in archives], customers)
    catalogue = Catalogue()
    for name, content in zip(names, deployed, strict=True):
        catalogue.begin_upload(name, content)
    rows = [tabular.request("", [customer]).body for customer in customers]
    plan = Plan(names, rows, requests=options.requests, zipf_exponent=options.zipf_exponent, seed=options.seed)
    # Added models are the only ones of their kind, so no other model's response can pass for theirs.
    return Soak(endpoint, catalogue, plan, customers=customers, to_add=other[:ADDED], pool=[*deployed, *other[ADDED:]])


def _measure(
    endpoint: SoakedEndpoint, soak: Soak, options: Options, machine: Machine, progress: Progress
) -> SoakResult:
    running = endpoint.running()
    sampler = Sampler(endpoint.running, lambda: soak.tally.done)
    before = _published(endpoint, 0)
    with sampler.sampling():
        seconds = asyncio.run(_soak(soak, options, progress))
    done = soak.tally.done
    after = _published(endpoint, before.hits.count + options.requests)
    progress.console.print("unloading every model and asking it again")
    reloaded = _reload(endpoint, soak, after)
    published = after.since(before)
    return SoakResult(
        machine=machine,
        options=options,
        seconds=seconds,
        done=done,
        tally=soak.tally,
        replaced_meanwhile=soak.catalogue.replaced_meanwhile,
        largest_difference=soak.catalogue.largest_difference,
        published=published,
        prediction=_predict(options, published, done / seconds),
        reloaded=reloaded,
        memory={name: trend(samples, done) for name, samples in sampler.samples.items()},
        restarts=_restarts(endpoint, running),
    )


async def _soak(soak: Soak, options: Options, progress: Progress) -> float:
    """Run the closed loop with a progress bar, and return its duration in seconds."""
    began = time.perf_counter()
    task = progress.add_task("soak", total=options.requests, rate="")

    async def follow() -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            done = soak.tally.done
            rate = f"{done / (time.perf_counter() - began):.0f}/s"
            progress.update(task, completed=done, rate=rate, refresh=True)

    def tell(part: int) -> None:
        done, minutes = soak.tally.done, (time.perf_counter() - began) / 60
        mistakes = soak.tally.wrong.total() + soak.tally.failed.total()
        progress.console.print(
            f"part {part + 1} of {SHIFTS}: {done} requests in {minutes:.1f} minutes, {mistakes} wrong or failed"
        )

    following = asyncio.create_task(follow())
    await soak.run(options.clients, tell)
    following.cancel()
    seconds = time.perf_counter() - began
    progress.update(task, completed=soak.tally.done, refresh=True)
    return seconds


def _reload(endpoint: SoakedEndpoint, soak: Soak, before: Published) -> Reloaded:
    """Invoke all models in turn, twice: each has been unloaded in favor of the others when its turn comes again."""
    models = len(soak.catalogue.names)
    asyncio.run(soak.sweep(reloaded=False))
    unloaded = _published(endpoint, before.hits.count + models)
    right = asyncio.run(soak.sweep(reloaded=True))
    asked = _published(endpoint, unloaded.hits.count + models).since(unloaded).hits
    replaced = set(soak.catalogue.replaced)
    return Reloaded(
        models=models,
        misses=int(asked.count - asked.sum),
        right=len(right),
        replaced=len(replaced),
        replaced_right=len(replaced & right),
    )


def _published(endpoint: SoakedEndpoint, requests: float) -> Published:
    """Return CloudWatch's metrics once they cover that many requests, or what there is at the time limit."""
    deadline = time.monotonic() + _CLOUDWATCH_SECONDS
    while True:
        response = httpx.post(
            f"{endpoint.account.runtime_url}/_local/publish", auth=endpoint.account.auth(), trust_env=False, timeout=60
        )
        response.raise_for_status()
        published = Published.read(endpoint.target)
        if published.hits.count >= requests or time.monotonic() > deadline:
            return published
        time.sleep(1)


def _predict(options: Options, published: Published, rate: float) -> Prediction:
    workload = Workload(
        popularity=zipf(options.models, options.zipf_exponent),
        model_mib=options.memory_per_model_mib,
        load_ms=(published.downloads.average + published.loads.average) / 1000,
        service_ms=published.latency.average / 1000,
        requests_per_second=rate,
    )
    return predict(workload, memory_for_models_mib(instance(INSTANCE_TYPE).memory_gib * 1024, CONTAINER_MIB))


def _restarts(endpoint: SoakedEndpoint, before: Running) -> int:
    """Count the processes that are not the same as before; without a ready container, count that one."""
    try:
        after = endpoint.running()
    except BenchmarkError:
        return 1
    return sum(getattr(after, name) != getattr(before, name) for name in PROCESSES)


if __name__ == "__main__":
    typer.run(main)
