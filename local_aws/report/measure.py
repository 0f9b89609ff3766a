"""The load tests that a report stands on: every variant with one user, and with enough to saturate it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from load_tests.gates import with_defaults
from load_tests.launch import Event, LoadTestError, run
from load_tests.plan import Plan
from load_tests.result import LoadResult
from local_aws.account import LocalAccount
from local_aws.load_targets import Served, served
from local_aws.report.model import Load, ReportError
from local_aws.watch_scaling import requests_of
from stacks.settings import Deployment

BUSY_USERS = 8
"""Enough to keep an instance of a few cores busy, and few enough that they wait for it and not for each other."""
_WARM_UP_SECONDS = 2.0
_PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
ALONE, BUSY = "alone", "busy"


@dataclass(frozen=True, slots=True)
class Measured:
    """Both load tests of a variant; None where one was not run."""

    served: Served
    alone: LoadResult | None
    busy: LoadResult | None


def targets(settings: Deployment, workload: str, account: LocalAccount | None) -> list[Served]:
    """The variants of a workload that load leaves at their size, or all where every endpoint scales."""
    found = served(settings, workload, None, account=account)
    endpoints = settings.workloads.enabled[workload].endpoints
    fixed = [each for each in found if endpoints[each.key].scaling is None]
    return fixed or found


def measure(
    settings: Deployment,
    targets: Mapping[str, Sequence[Served]],
    *,
    local: bool,
    seconds: float,
    machine: str,
    folder: Path,
    on_test: Callable[[str, int], object],
) -> None:
    """Loads every variant, by workload, in turn for `seconds`, twice, and leaves the results in `folder`.

    on_test: called before each load test with what is loaded, and how many are done. Raises ReportError.
    """
    done = 0
    for workload, variants in targets.items():
        for each in variants:
            feed = requests_of(settings, workload, each.key)
            for name, users in ((ALONE, 1), (BUSY, BUSY_USERS)):
                on_test(" ".join(filter(None, [each.endpoint, each.variant, name])), done)
                done += 1
                plan = _plan(workload, each, users, seconds, machine, local=local)
                try:
                    run(plan, feed, _folder(folder, each, name).absolute(), _ignore)
                except LoadTestError as error:
                    raise ReportError(str(error)) from error


def _ignore(event: Event) -> None:
    del event


def _plan(workload: str, each: Served, users: int, seconds: float, machine: str, *, local: bool) -> Plan:
    return Plan(
        workload=workload,
        endpoint=each.endpoint,
        variant=each.variant,
        instance_type=each.instance_type,
        location="local" if local else "aws",
        machine=machine,
        target=each.target,
        feed="",
        client="fast",
        level=users,
        spawn_rate=100,
        warm_up=_WARM_UP_SECONDS,
        seconds=seconds,
        gates=with_defaults([], "closed"),
    )


def _folder(folder: Path, each: Served, name: str) -> Path:
    return folder / "-".join(filter(None, [each.endpoint, each.variant])) / name


def read_measured(variants: Sequence[Served], folder: Path) -> Mapping[str, list[Measured]]:
    """What `measure` left of these variants, by the endpoint's key."""
    found: dict[str, list[Measured]] = {}
    for each in variants:
        alone, busy = (_read(_folder(folder, each, name) / "result.json") for name in (ALONE, BUSY))
        found.setdefault(each.key, []).append(Measured(each, alone, busy))
    return found


def _read(path: Path) -> LoadResult | None:
    return LoadResult.read(path) if path.exists() else None


def load(result: LoadResult | None) -> Load | None:
    """What a report keeps of a load test."""
    if result is None:
        return None
    total = result.total
    p50, p90, p99 = (total.percentile(percent) for percent in (50, 90, 99))
    latencies = total.latencies()
    ranks = {share: max(1, round(share * latencies.count)) for share in _PROBABILITIES}
    at_ranks = latencies.at_ranks_ms(ranks.values()) if latencies.count else {}
    return Load(
        users=result.reached.users_reached or 0,
        rate=total.answered_per_second,
        p50_ms=p50.value_ms if p50 else 0.0,
        p90_ms=p90.value_ms if p90 else 0.0,
        p99_ms=p99.value_ms if p99 else 0.0,
        p99_low_ms=p99.low_ms if p99 else None,
        p99_high_ms=p99.high_ms if p99 else None,
        error_rate=total.error_rate,
        samples=total.answered,
        saturated=result.saturation.reasons,
        location=result.location,
        machine=result.machine,
        started_at=result.started_at,
        quantiles_ms=tuple((share, at_ranks[rank]) for share, rank in ranks.items() if rank in at_ranks),
    )
