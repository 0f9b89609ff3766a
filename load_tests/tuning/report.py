"""Results of a sweep: a table, CSV, a plot, and the best settings as a fragment of a deployment file."""

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.table import Table

from load_tests.traffic import Traffic, joined
from load_tests.tuning.search import Sweep, Trial
from stacks.settings.saved_model import SavedModelEndpoint

_HEADINGS = (
    "settings", "closed loop/s", "times deployed", "P50 ms", "P99 ms", "open loop P50 ms", "open loop P99 ms", "n",
    "outcome",
)  # fmt: skip


def table(sweep: Sweep, title: str) -> Table:
    """Return a table with one row per trial; the best is marked."""
    result = Table(title=title)
    for heading in _HEADINGS:
        result.add_column(heading, justify="left" if heading in ("settings", "outcome") else "right")
    best = sweep.best
    for trial in sweep.trials:
        closed, opened = joined(trial.closed) if trial.closed else None, trial.open
        outcome = " ".join(part for part in (trial.outcome, trial.reason) if part)
        result.add_row(
            trial.candidate.label,
            f"{trial.requests_per_second:.2f}" if closed else "-",
            f"{trial.ratio:.2f}" if closed else "-",
            _ms(closed, 50),
            _ms(closed, 99),
            _ms(opened, 50),
            _ms(opened, 99),
            str(len(closed.latencies) if closed else 0),
            "best" if trial is best else outcome,
            style="bold" if trial is best else None,
        )
    return result


def _ms(traffic: Traffic | None, percent: int) -> str:
    value = traffic.percentile_ms(percent) if traffic else math.nan
    return "-" if math.isnan(value) else f"{value:.1f}"


def conclusion(sweep: Sweep) -> str:
    """Summarize the sweep's findings in a sentence."""
    best = sweep.best
    if best is None:
        limit = sweep.plan.p99_limit_ms
        return "no settings qualify: " + (
            f"none keeps P99 below {limit:g} ms without losing requests at {sweep.rate:.2f} per second; "
            "lower the rate, raise the limit or use a larger instance"
            if limit is not None
            else "every trial failed or lost requests; see the table"
        )
    defaults = next((trial for trial in sweep.trials if trial.candidate.label == "defaults"), None)
    if defaults is None or not defaults.ratios:
        return f"best: {best.candidate.label}, {best.ratio:.2f} times the rate of the deployed settings"
    if best is defaults:
        return "best: the container's defaults; no other setting is faster"
    gain = best.ratio / defaults.ratio
    sure = "" if defaults.slower_than(best) else "; the turns overlap, so this may be noise"
    slowest = min((trial for trial in sweep.trials if trial.ratios), key=lambda trial: trial.ratio)
    return (
        f"best: {best.candidate.label}, {gain:.2f} times the defaults{sure}; "
        f"the slowest, {slowest.candidate.label}, {slowest.ratio / defaults.ratio:.2f} times"
    )


def snippet(best: Trial, workload: str, key: str, endpoint: SavedModelEndpoint) -> str:
    """Return the endpoint with the best settings as YAML for a deployment file."""
    tuned = endpoint.model_copy(update={"tensorflow_serving": best.candidate.knobs})
    values = tuned.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.safe_dump({"workloads": {workload: {"endpoints": {key: values}}}}, sort_keys=False)
    return text


def write(sweep: Sweep, folder: Path, *, title: str, best_text: str | None) -> None:
    """Write trials.csv, best.yaml with the best settings, and tuning.png if matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "trials.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["settings", "outcome", "reason", "turn", "requests", "failed", "seconds", "per_second", "times_deployed",
             "p50_ms", "p99_ms"]
        )  # fmt: skip
        for trial in sweep.trials:
            rows.writerows(_rows(trial))
    if best_text is not None:
        (folder / "best.yaml").write_text(best_text)
    else:
        (folder / "best.yaml").unlink(missing_ok=True)
    _plot(sweep, folder / "tuning.png", title)


def _rows(trial: Trial) -> list[list[object]]:
    turns: list[tuple[str, Traffic, float]] = [
        (f"closed {number}", traffic, ratio)
        for number, (traffic, ratio) in enumerate(zip(trial.closed, trial.ratios, strict=True), 1)
    ]
    if trial.open is not None:
        turns.append(("open", trial.open, math.nan))
    head: list[object] = [trial.candidate.label, trial.outcome, trial.reason]
    if not turns:
        return [[*head, "", 0, 0, 0, "", "", "", ""]]
    return [
        [
            *head, name, len(traffic.latencies), traffic.failed, round(traffic.seconds, 3),
            round(traffic.requests_per_second, 4), "" if math.isnan(ratio) else round(ratio, 4),
            round(traffic.percentile_ms(50), 3), round(traffic.percentile_ms(99), 3),
        ]
        for name, traffic, ratio in turns
    ]  # fmt: skip


def _plot(sweep: Sweep, path: Path, title: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: install the extra `saved-model`, which includes matplotlib", file=sys.stderr)
        return
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots()
    best = sweep.best
    shown: Sequence[Trial] = [trial for trial in sweep.trials if trial.closed]
    for number, trial in enumerate(shown, 1):
        point = (trial.requests_per_second, trial.closed_p99_ms)
        marker = "x" if trial.outcome == "dominated" else "*" if trial is best else "o"
        mark = " (best)" if trial is best else " (dominated)" if trial.outcome == "dominated" else ""
        axes.scatter(
            *point, marker=marker, s=150 if trial is best else 50, label=f"{number}  {trial.candidate.label}{mark}"
        )
        axes.annotate(str(number), point, textcoords="offset points", xytext=(6, 4))
    axes.set_xlabel(f"requests per second, closed loop of {sweep.plan.clients} clients")
    axes.set_ylabel("P99 ms")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=110)
