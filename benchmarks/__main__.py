"""`python -m benchmarks`: render the recorded results into benchmarks/README.md and its plots, without measuring."""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.catalogue import BENCHMARKS, Benchmark

HERE = Path(__file__).parent
README = HERE / "README.md"
_INTRODUCTION = """# Benchmarks

Each figure compares programs that took turns in one run on the named machine. Each command repeats the measurement and
replaces the recorded result. `python -m benchmarks` renders this page.

**Before you use these figures:** all of them are *local*. The machine has two cores of an AMD EPYC with AVX-512 VNNI,
and is not a C6i, C5 or Inf2 instance. Other programs may have used it. Ratios carry over better than milliseconds, and
differences under 10% mean nothing. NeuronCores are emulated with the batch times that AWS publishes. TensorFlow runs
behind a fake server, because the TensorFlow Serving binary was not available. Missed targets are shown as missed.
"""


def main() -> int:
    """Render everything and return the exit code."""
    for benchmark in BENCHMARKS:
        _plot(benchmark)
    README.write_text(rendered())
    print(f"{README.relative_to(HERE.parent)} is written", file=sys.stderr)
    return 0


def rendered() -> str:
    """Return the text of the whole page."""
    parts = [_INTRODUCTION, _overview()]
    for benchmark in BENCHMARKS:
        picture = f"![{benchmark.axis}]({benchmark.picture})\n\n" if benchmark.bars is not None else ""
        recorded = (HERE / f"{benchmark.result}.md").read_text().partition("\n")[2].strip()
        parts.append(
            f"## {benchmark.title}\n{benchmark.question} `{benchmark.command}`. Closest rivals: "
            f"{benchmark.slips}.\n\n{picture}{recorded}\n"
        )
    return "\n".join(parts)


def _overview() -> str:
    lines = ["| benchmark | result | targets |", "|---|---|---|"]
    for benchmark in BENCHMARKS:
        summary = _summary(benchmark)
        met, judged = _targets(summary)
        anchor = benchmark.title.lower().replace(",", "").replace("'", "").replace(" ", "-")
        lines.append(f"| [{benchmark.title}](#{anchor}) | {benchmark.headline(summary)} | {met} of {judged} met |")
    return "\n".join(lines) + "\n"


def _summary(benchmark: Benchmark) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((HERE / f"{benchmark.result}.json").read_text())
    return summary


def _targets(value: Any) -> tuple[int, int]:
    """Count the targets met, and all targets, anywhere below a value."""
    if isinstance(value, dict):
        own = [value["met"]] if "figure" in value or "name" in value else []
        below = [_targets(each) for each in value.values()]
    elif isinstance(value, list):
        own, below = [], [_targets(each) for each in value]
    else:
        return 0, 0
    own = [met for met in own if met is not None]
    return sum(own) + sum(met for met, _ in below), len(own) + sum(judged for _, judged in below)


def _plot(benchmark: Benchmark) -> None:
    """Draw the comparison as bars, best first; the same result always gives the same bytes."""
    if benchmark.bars is None:
        return
    ordered = sorted(benchmark.bars(_summary(benchmark)), key=lambda bar: bar[1])
    with rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 0.7 + 0.38 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh([name for name, _ in ordered], [value for _, value in ordered], color="tab:blue")
        axes.bar_label(bars, fmt="{:,.3g}", padding=3)
        axes.set_xlabel(f"{benchmark.axis} (local)")
        axes.margins(x=0.12)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(HERE / benchmark.picture, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
