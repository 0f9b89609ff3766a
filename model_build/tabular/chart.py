"""Draw the accuracy of a build."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from model_build.tabular.train import Report, StateResult

_GRAY, _BLUE = "#8a8a8a", "#1f6fb2"


def draw(report: Report, source: str, path: Path) -> None:
    """Write a PNG of AUC and error per state, best AUC first; equal reports give equal bytes."""
    states = sorted(report.states, key=_rank)
    figure = Figure(figsize=(11, 13), layout="constrained")
    FigureCanvasAgg(figure)
    fallbacks = {fallback.state for fallback in report.fallbacks}
    labels = [f"{result.state}{'*' if result.state in fallbacks else ''} ({result.test.rows})" for result in states]
    left, right = figure.subplots(1, 2, sharey=True)
    errors = [result.test.error for result in states]
    widest = max([error for error in errors if error is not None], default=0.0)
    _bars(left, "AUC (higher is better)", labels, [result.test.auc for result in states], report.test.auc, 1.0)
    _bars(right, "error (lower is better)", labels, errors, report.test.error, min(max(1.2 * widest, 0.1), 1.0))
    left.set_ylabel("state (test rows)")
    left.invert_yaxis()
    note = "; * uses the model trained on all states" if fallbacks else ""
    figure.suptitle(f"Churn models per state on {report.test.rows} test rows\n{source}{note}")
    # Otherwise the PNG contains matplotlib's version, and changes with it.
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _rank(result: StateResult) -> tuple[float, float, str]:
    auc, error = result.test.auc, result.test.error
    return (1.0 if auc is None else -auc, 1.0 if error is None else error, result.state)


def _bars(
    axes: Axes, name: str, labels: list[str], values: list[float | None], pooled: float | None, limit: float
) -> None:
    positions = range(len(labels))
    axes.barh(positions, [value or 0.0 for value in values], color=_BLUE)
    if pooled is not None:
        axes.axvline(pooled, color=_GRAY, linestyle="--", label=f"all states: {pooled:.3f}")
        axes.legend(loc="lower right")
    for position, value in zip(positions, values, strict=True):
        # A number that would extend beyond the panel goes inside its bar.
        inside = value is not None and value > 0.9 * limit
        axes.annotate(
            "one class only" if value is None else f"{value:.2f}",
            (value or 0.0, position),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            fontsize=8,
            color="white" if inside else _GRAY if value is None else "black",
            bbox={"facecolor": _BLUE if inside else "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.set_yticks(positions, labels, fontsize=8)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xlim(0, limit)
    axes.set_xlabel(name)
