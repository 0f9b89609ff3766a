"""Run the load tests that a report is based on: every variant with one user, and with enough users to saturate it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_tests.deployed import DeployedWorkload
from load_tests.gates import with_defaults
from load_tests.kinds import KINDS
from load_tests.kinds.base import Reached, Served
from load_tests.launch import Event, LoadTestError, run
from load_tests.plan import Plan
from load_tests.planning import Place
from load_tests.report.model import Load, ReportError
from load_tests.result import LoadResult
from load_tests.targets import served

BUSY_USERS = 8
"""Enough users to keep an instance of a few cores busy, and few enough to wait for it rather than for each other."""
_WARM_UP_SECONDS = 2.0
_PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
ALONE, BUSY = "alone", "busy"


@dataclass(frozen=True, slots=True)
class Measured:
    """Both load tests of a variant; None for one that was not run."""

    served: Served
    alone: LoadResult | None
    busy: LoadResult | None


def targets(workload: DeployedWorkload[Any], reached: Reached) -> list[Served]:
    """Return the variants of a workload that keep their size under load, or all where every endpoint scales."""
    variants = served(workload, None, reached)
    fixed = [each for each in variants if not workload.settings.served[each.key].scales]
    return fixed or variants


def measure(
    workloads: Sequence[DeployedWorkload[Any]],
    targets: Mapping[str, Sequence[Served]],
    place: Place,
    *,
    folder: Path,
    seconds: float,
    on_test: Callable[[str, int], object],
) -> None:
    """Load every variant in turn for `seconds`, twice, and leave the results in `folder`; raises ReportError.

    targets: variants by workload.
    on_test: called before each load test with what is loaded, and the number of tests done.
    """
    done = 0
    for workload in workloads:
        for each in targets[workload.name]:
            payloads = KINDS[workload.settings.kind].requests(workload, each.key)
            for name, users in ((ALONE, 1), (BUSY, BUSY_USERS)):
                on_test(" ".join(filter(None, [each.endpoint, each.variant, name])), done)
                done += 1
                plan = _plan(workload.name, each, users, seconds, place)
                try:
                    run(plan, payloads, _folder(folder, each, name).absolute(), _ignore)
                except LoadTestError as error:
                    raise ReportError(str(error)) from error


def _ignore(_event: Event) -> None:
    """Ignore an event."""


def _plan(workload: str, each: Served, users: int, seconds: float, place: Place) -> Plan:
    return Plan(
        workload=workload,
        endpoint=each.endpoint,
        variant=each.variant,
        instance_type=each.instance_type,
        location="local" if place.local else "aws",
        machine=place.machine,
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
    """Read the results that `measure` left for these variants, keyed by the endpoint's key."""
    measured: dict[str, list[Measured]] = {}
    for each in variants:
        alone, busy = (_read(_folder(folder, each, name) / "result.json") for name in (ALONE, BUSY))
        measured.setdefault(each.key, []).append(Measured(each, alone, busy))
    return measured


def _read(path: Path) -> LoadResult | None:
    return LoadResult.read(path) if path.exists() else None


def load(result: LoadResult | None) -> Load | None:
    """Extract what a report keeps of a load test; None if it was not run."""
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
