"""Choose a candidate of a group, and say why the others lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from load_tests.report.model import Candidate, Judged

KEPT = 0.99
"""MLPerf's lower limit on the fraction of the reference's score that an optimized model must keep."""
MAX_ERROR_RATE = 0.001
_NOISE = 1.05
"""Ratio of two costs below which one run cannot tell them apart."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen candidate's name, None if there is none; the headline; and every verdict, best first."""

    chosen: str | None
    headline: str
    judged: tuple[Judged, ...]


def decide(candidates: Sequence[Candidate], p99_ms: float) -> Decision:
    """Choose the cheapest per million requests of the candidates that keep accuracy, the error limit and the P99 limit.

    If any of these has no price, choose the one with the highest rate.
    p99_ms: P99 latency limit with a single user.
    """
    lost = {each.name: reason for each in candidates if (reason := unfit(each, p99_ms)) is not None}
    fit = [each for each in candidates if each.name not in lost]
    refused = tuple(Judged(name=name, chosen=False, reason=reason) for name, reason in lost.items())
    if not fit:
        return Decision(None, "no candidate qualifies", refused)
    priced = all(each.usd_per_million is not None for each in fit)
    ordered = sorted(fit, key=_cost if priced else _slowness)
    best, *others = ordered
    judged = (
        Judged(name=best.name, chosen=True, reason=_why_best(best, others, priced=priced)),
        *(Judged(name=each.name, chosen=False, reason=_why_lost(each, best, priced=priced)) for each in others),
        *refused,
    )
    return Decision(best.name, _headline(best, others, priced=priced), judged)


def _cost(candidate: Candidate) -> float:
    assert candidate.usd_per_million is not None
    return candidate.usd_per_million


def _slowness(candidate: Candidate) -> float:
    assert candidate.busy is not None
    return -candidate.busy.rate


def unfit(candidate: Candidate, p99_ms: float) -> str | None:
    """Return why a candidate does not qualify at any cost, or None if it does.

    p99_ms: P99 latency limit with a single user.
    """
    if candidate.alone is None or candidate.busy is None:
        return "it was not measured"
    for load in (candidate.alone, candidate.busy):
        if load.error_rate > MAX_ERROR_RATE:
            return f"{load.error_rate:.2%} of its requests failed with {load.users} users"
    if not candidate.busy.rate:
        return "it answered nothing"
    quality = candidate.quality
    if quality is not None and (not quality.passed or (quality.kept is not None and quality.kept < KEPT)):
        kept = "" if quality.kept is None else f", {quality.kept:.1%} of the reference's"
        return f"its {quality.metric} is {quality.value:.4g}{kept}: below the limit of {KEPT:.0%}"
    if candidate.alone.p99_ms > p99_ms:
        return f"its P99 is {candidate.alone.p99_ms:.0f} ms with a single user: over {p99_ms:g} ms"
    return None


def _times(dear: float, cheap: float) -> str:
    return f"{dear / cheap:.1f} times" if dear / cheap < 10 else f"{dear / cheap:.0f} times"


def _why_best(best: Candidate, others: Sequence[Candidate], *, priced: bool) -> str:
    if not others:
        return "the only candidate that qualifies"
    reason = "the lowest cost per million requests" if priced else "the highest rate"
    if best.quality is not None and best.quality.kept is not None:
        reason += f"; {best.quality.metric} kept {best.quality.kept:.1%}"
    return reason


def _why_lost(candidate: Candidate, best: Candidate, *, priced: bool) -> str:
    if not priced:
        return f"reaches {_rate(candidate) / _rate(best):.0%} of the chosen candidate's rate"
    ratio = _cost(candidate) / _cost(best)
    if ratio < _NOISE:
        return "costs the same, within the noise of one run"
    slower = _rate(best) / _rate(candidate)
    dearer = _hourly(candidate) / _hourly(best)
    parts = []
    if slower >= _NOISE:
        parts.append(f"{slower:.1f} times slower")
    elif slower <= 1 / _NOISE:
        parts.append(f"though {1 / slower:.1f} times faster")
    if abs(dearer - 1) > 0.01:
        parts.append(f"at {dearer:.0%} of the hourly price")
    return f"costs {_times(_cost(candidate), _cost(best))} as much" + (f": {', '.join(parts)}" if parts else "")


def _headline(best: Candidate, others: Sequence[Candidate], *, priced: bool) -> str:
    rate = f"{_rate(best):,.0f}" if _rate(best) >= 100 else f"{_rate(best):.1f}"
    headline = f"{best.what} on {best.instance_type}: {rate} requests/s"
    if best.usd_per_million is not None:
        headline += f", ${best.usd_per_million:.2f} per million"
    if best.quality is not None and best.quality.kept is not None:
        headline += f", {best.quality.metric} kept {best.quality.kept:.1%}"
    if others and priced and _cost(others[0]) / _cost(best) >= _NOISE:
        headline += f"; the next, {others[0].label}, costs {_times(_cost(others[0]), _cost(best))} as much"
    return headline


def _rate(candidate: Candidate) -> float:
    assert candidate.busy is not None
    return candidate.busy.rate


def _hourly(candidate: Candidate) -> float:
    assert candidate.usd_per_hour is not None
    return candidate.usd_per_hour
