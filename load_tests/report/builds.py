"""Describe a workload's builds, one line each."""

from collections.abc import Mapping
from typing import Any

from load_tests.kinds.base import Summary, WorkloadKind
from load_tests.report.model import Build


def described(workload: str, kind: WorkloadKind[Any], summaries: Mapping[str, Summary]) -> list[Build]:
    """Return one line per build; `summaries` are keyed by model."""
    return [
        Build(
            workload=workload,
            name=model or workload,
            source=str(summary["source"]),
            engine=str(summary.get("engine") or ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items())),
            scores=_scores(kind, summary) or "not scored: random weights, for latency only",
        )
        for model, summary in summaries.items()
    ]


def _scores(kind: WorkloadKind[Any], summary: Summary) -> str:
    scores = []
    for name, quality in kind.qualities(summary).items():
        label = f"{name} {quality.metric}" if name else quality.metric
        samples = "" if quality.samples is None else f" (n {quality.samples})"
        scores.append(f"{label} {quality.value:.4g}{samples}")
    return ", ".join(scores)
