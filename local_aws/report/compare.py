"""Two reports beside each other: what became worse, and whether by more than noise."""

from dataclasses import dataclass, replace
from typing import Literal

from local_aws.report.model import Candidate, Load, Report, ReportError

TOLERANCE = 0.1
"""Relative change of a rate, a latency or a cost that one run does not tell from noise."""
QUALITY_TOLERANCE = 0.005
"""Relative change of a score."""
Verdict = Literal["same", "better", "worse", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure before and after; change is relative to before, None where there is only one."""

    candidate: str
    figure: str
    before: float | None
    after: float | None
    change: float | None
    verdict: Verdict


def compare(before: Report, after: Report, tolerance: float = TOLERANCE) -> list[Difference]:
    """Every figure of every candidate; raises ReportError for reports whose figures cannot be compared."""
    if before.location != after.location:
        raise ReportError(
            f"one report is {before.location} and the other {after.location}: compare two of the same place"
        )
    if before.location == "local" and before.machine != after.machine:
        raise ReportError(
            f"one report is of {before.machine!r} and the other of {after.machine!r}: local figures of two machines "
            "do not tell a regression; make both on one"
        )
    old, new = (
        {candidate.name: candidate for group in report.groups for candidate in group.candidates}
        for report in (before, after)
    )
    made: list[Difference] = []
    for name in dict.fromkeys([*old, *new]):
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            made.append(Difference(name, "candidate", None, None, None, "new" if one is None else "gone"))
            continue
        made += _figures(name, one, other, tolerance)
    return made


def regressed(differences: list[Difference]) -> bool:
    """Whether anything became worse or is gone."""
    return any(each.verdict in ("worse", "gone") for each in differences)


def _figures(name: str, before: Candidate, after: Candidate, tolerance: float) -> list[Difference]:
    made: list[Difference | None] = [
        _difference(name, "requests/s", _rate(before.busy), _rate(after.busy), tolerance, more_is_better=True),
        _difference(name, "P50 ms", _p50(before.alone), _p50(after.alone), tolerance),
        _p99(name, before.alone, after.alone, tolerance),
        _difference(name, "$ a million", before.usd_per_million, after.usd_per_million, tolerance),
    ]
    if before.quality is not None and after.quality is not None:
        figure = f"{after.quality.metric} kept"
        kept = before.quality.kept, after.quality.kept
        made.append(_difference(name, figure, *kept, QUALITY_TOLERANCE, more_is_better=True))
    if before.busy is not None and after.busy is not None and after.busy.error_rate > before.busy.error_rate:
        made.append(Difference(name, "failed", before.busy.error_rate, after.busy.error_rate, None, "worse"))
    return [each for each in made if each is not None]


def _rate(load: Load | None) -> float | None:
    return None if load is None else load.rate


def _p50(load: Load | None) -> float | None:
    return None if load is None else load.p50_ms


def _p99(name: str, before: Load | None, after: Load | None, tolerance: float) -> Difference | None:
    """Told apart only where both confidence intervals are known and lie apart: a P99 of few samples is a guess."""
    if before is None or after is None:
        return None
    found = _difference(name, "P99 ms", before.p99_ms, after.p99_ms, tolerance)
    if found is None or _apart(before, after):
        return found
    return replace(found, verdict="same")


def _interval(load: Load) -> tuple[float, float] | None:
    return None if load.p99_low_ms is None or load.p99_high_ms is None else (load.p99_low_ms, load.p99_high_ms)


def _apart(one: Load, other: Load) -> bool:
    first, second = _interval(one), _interval(other)
    return first is not None and second is not None and (first[1] < second[0] or second[1] < first[0])


def _difference(
    name: str, figure: str, before: float | None, after: float | None, tolerance: float, *, more_is_better: bool = False
) -> Difference | None:
    if before is None and after is None:
        return None
    if before is None or after is None:
        return Difference(name, figure, before, after, None, "new" if before is None else "gone")
    change = after / before - 1 if before else 0.0
    gain = change if more_is_better else -change
    verdict: Verdict = "same" if abs(change) <= tolerance else "better" if gain > 0 else "worse"
    return Difference(name, figure, before, after, change, verdict)
