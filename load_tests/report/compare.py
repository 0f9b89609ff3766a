"""Compare two reports: what got worse, and whether by more than noise."""

from dataclasses import dataclass, replace
from typing import Literal

from load_tests.report.model import Candidate, Load, Report, ReportError

TOLERANCE = 0.1
"""Relative change of a rate, latency or cost that a single run cannot distinguish from noise."""
QUALITY_TOLERANCE = 0.005
"""Relative change of a score that counts as no change."""
Verdict = Literal["same", "better", "worse", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure before and after; `change` is relative to `before`, None if only one report has the figure."""

    candidate: str
    figure: str
    before: float | None
    after: float | None
    change: float | None
    verdict: Verdict


def compare(before: Report, after: Report, tolerance: float = TOLERANCE) -> list[Difference]:
    """Compare every figure of every candidate; raises ReportError for reports that are not comparable."""
    if before.location != after.location:
        raise ReportError(
            f"one report is {before.location} and the other {after.location}: compare two from the same location"
        )
    if before.location == "local" and before.machine != after.machine:
        raise ReportError(
            f"one report is from {before.machine!r} and the other from {after.machine!r}: local figures from different "
            "machines cannot show a regression; create both on the same machine"
        )
    old, new = (
        {candidate.name: candidate for group in report.groups for candidate in group.candidates}
        for report in (before, after)
    )
    differences: list[Difference] = []
    for name in dict.fromkeys([*old, *new]):
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            differences.append(Difference(name, "candidate", None, None, None, "new" if one is None else "gone"))
            continue
        differences += _figures(name, one, other, tolerance)
    return differences


def regressed(differences: list[Difference]) -> bool:
    """Return whether any figure got worse or any candidate is gone."""
    return any(each.verdict in ("worse", "gone") for each in differences)


def _figures(name: str, before: Candidate, after: Candidate, tolerance: float) -> list[Difference]:
    differences: list[Difference | None] = [
        _difference(name, "requests/s", _rate(before.busy), _rate(after.busy), tolerance, more_is_better=True),
        _difference(name, "P50 ms", _p50(before.alone), _p50(after.alone), tolerance),
        _p99(name, before.alone, after.alone, tolerance),
        _difference(name, "$ a million", before.usd_per_million, after.usd_per_million, tolerance),
    ]
    if before.quality is not None and after.quality is not None:
        figure = f"{after.quality.metric} kept"
        kept = before.quality.kept, after.quality.kept
        differences.append(_difference(name, figure, *kept, QUALITY_TOLERANCE, more_is_better=True))
    if before.busy is not None and after.busy is not None and after.busy.error_rate > before.busy.error_rate:
        differences.append(Difference(name, "failed", before.busy.error_rate, after.busy.error_rate, None, "worse"))
    return [each for each in differences if each is not None]


def _rate(load: Load | None) -> float | None:
    return None if load is None else load.rate


def _p50(load: Load | None) -> float | None:
    return None if load is None else load.p50_ms


def _p99(name: str, before: Load | None, after: Load | None, tolerance: float) -> Difference | None:
    """Report a change only if both confidence intervals are known and do not overlap: few samples make P99 a guess."""
    if before is None or after is None:
        return None
    difference = _difference(name, "P99 ms", before.p99_ms, after.p99_ms, tolerance)
    if difference is None or _apart(before, after):
        return difference
    return replace(difference, verdict="same")


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
