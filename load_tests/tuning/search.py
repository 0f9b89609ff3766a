"""The sweep: which settings to try, for how long, and how to pick the best."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from load_tests.traffic import Traffic, joined
from load_tests.tuning import space
from load_tests.tuning.space import Candidate

Outcome = Literal["measured", "dominated", "failed"]
SLICES = 3
"""Turns of the closed loop. For two equally fast settings, all three turns of one are slower than all three of the
other in one case out of twenty (Mann-Whitney: 1 / binomial(6, 3)); more turns make this rarer."""
OPEN_LOOP_SHARE = 0.7
"""Default rate of the open loop, as a fraction of the deployed endpoint's closed-loop rate."""


class TrialFailedError(RuntimeError):
    """Settings could not be served, or gave other responses than the deployed endpoint; the message says why."""


class Bench(Protocol):
    """A test bench that serves candidate settings next to the deployed endpoint."""

    def serve(self, candidate: Candidate) -> None:
        """Serve a candidate; raises TrialFailedError."""

    def closed_loop(self) -> tuple[Traffic, Traffic]:
        """Run one turn of the candidate and one of the deployed endpoint."""

    def open_loop(self, rate: float) -> Traffic:
        """Run the candidate under requests at a fixed rate."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Measurements of one candidate.

    closed: its turns of the closed loop.
    ratios: its rate over the deployed endpoint's in each turn; a drifting machine hardly changes this ratio.
    open: its open loop.
    reason: why the trial ended early.
    """

    candidate: Candidate
    outcome: Outcome
    closed: tuple[Traffic, ...] = ()
    ratios: tuple[float, ...] = ()
    open: Traffic | None = None
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Median ratio; 0 when there is none."""
        return statistics.median(self.ratios) if self.ratios else 0.0

    @property
    def requests_per_second(self) -> float:
        """Rate over all turns of the closed loop."""
        return joined(self.closed).requests_per_second if self.closed else 0.0

    @property
    def closed_p99_ms(self) -> float:
        """P99 over all turns of the closed loop."""
        return joined(self.closed).percentile_ms(99) if self.closed else float("nan")

    def slower_than(self, other: "Trial") -> bool:
        """Return whether every turn of this trial is slower than every turn of the other."""
        return bool(self.ratios and other.ratios) and max(self.ratios) < min(other.ratios)

    def dominated_by(self, other: "Trial") -> bool:
        """Return whether the other is faster beyond doubt, with a P99 latency no higher."""
        return self.slower_than(other) and self.closed_p99_ms >= other.closed_p99_ms


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try and how much load to send.

    vcpus: threads that can run at once.
    clients, slices: clients of the closed loop and number of its turns.
    inference_script: whether the model includes an `inference.py`.
    rate: rate of the open loop, in requests per second; None means OPEN_LOOP_SHARE of the deployed endpoint's
        closed-loop rate.
    p99_limit_ms: P99 limit in the open loop; slower settings are not chosen.
    only: candidates to try instead of the default ones.
    """

    vcpus: int
    clients: int
    inference_script: bool
    slices: int = SLICES
    rate: float | None = None
    p99_limit_ms: float | None = None
    only: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """Result of a sweep: every trial in order, and the open-loop rate in requests per second."""

    plan: Plan
    trials: tuple[Trial, ...]
    rate: float

    @property
    def best(self) -> Trial | None:
        """Best trial within the P99 limit; None when no trial qualifies."""
        return best(self.trials, self.plan.p99_limit_ms)


def sweep(plan: Plan, bench: Bench, on_trial: Callable[[Trial], object], on_start: Callable[[str], object]) -> Sweep:
    """Try parallelism first, then batching and the Python service on top of the best result so far.

    A candidate that the best so far dominates after SLICES turns gets no further turn and no open loop.
    """
    trials: list[Trial] = []
    rate = plan.rate

    def run(candidates: Sequence[Candidate]) -> None:
        nonlocal rate
        for candidate in candidates:
            if any(done.candidate.knobs == candidate.knobs for done in trials):
                continue
            on_start(candidate.label)
            trial, rate = _try(candidate, bench, plan, trials, rate)
            trials.append(trial)
            on_trial(trial)

    run(plan.only or space.parallelism(plan.vcpus))
    leader = best(trials, plan.p99_limit_ms)
    if not plan.only and leader is not None:
        run(space.batching(leader.candidate.knobs, plan.vcpus, plan.clients))
        leader = best(trials, plan.p99_limit_ms)
        if plan.inference_script and leader is not None:
            run(space.python_service(leader.candidate.knobs, plan.vcpus))
    return Sweep(plan, tuple(trials), rate or 0.0)


def best(trials: Sequence[Trial], p99_limit_ms: float | None) -> Trial | None:
    """Return the best trial that lost no request and keeps within the limit; None when no trial qualifies.

    The fastest is the one with the highest median ratio. Trials not slower than it beyond doubt count as equally fast;
    the best is the one of them with the lowest P99 in the open loop.
    """
    fit = [
        (trial, trial.open.percentile_ms(99))
        for trial in trials
        if trial.outcome == "measured"
        and trial.open is not None
        and not (trial.open.failed or joined(trial.closed).failed)
        and (p99_limit_ms is None or trial.open.percentile_ms(99) <= p99_limit_ms)
    ]
    if not fit:
        return None
    fastest, _ = max(fit, key=lambda each: each[0].ratio)
    return min((each for each in fit if not each[0].slower_than(fastest)), key=lambda each: each[1])[0]


def _try(
    candidate: Candidate, bench: Bench, plan: Plan, before: Sequence[Trial], rate: float | None
) -> tuple[Trial, float | None]:
    """Run one trial; return it with the open-loop rate, which the first trial sets."""
    try:
        bench.serve(candidate)
    except TrialFailedError as error:
        return Trial(candidate, "failed", reason=str(error)), rate
    trial = Trial(candidate, "measured")
    deployed: list[Traffic] = []
    leader = best(before, plan.p99_limit_ms)
    while len(deployed) < plan.slices:
        mine, theirs = bench.closed_loop()
        if not mine.latencies or not theirs.latencies:
            return replace(trial, outcome="failed", reason="no request was answered"), rate
        deployed.append(theirs)
        trial = replace(
            trial,
            closed=(*trial.closed, mine),
            ratios=(*trial.ratios, mine.requests_per_second / theirs.requests_per_second),
        )
        if len(deployed) >= SLICES and leader is not None and trial.dominated_by(leader):
            return replace(trial, outcome="dominated", reason=f"by {leader.candidate.label}"), rate
    rate = rate or OPEN_LOOP_SHARE * joined(deployed).requests_per_second
    return replace(trial, open=bench.open_loop(rate)), rate
