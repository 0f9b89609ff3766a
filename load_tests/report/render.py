"""Render a report as one self-contained HTML document, and as Markdown for a pull request."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from load_tests.report.model import Candidate, Group, Load, Report
from sizing.simulation.plots import set_log_scale

_TEMPLATES = Path(__file__).parent
_GREY = "#808b96"
_COLORS = ("#0972d3", "#e07941", "#037f0c", "#8456ce", "#d13212", "#067f68", "#c33d69", "#7d8998")


def html(report: Report) -> str:
    """Return the HTML document."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    environment.filters["usd"] = usd
    template = environment.get_template("report.html.j2")
    curves = {group.title: curve(group.candidates) for group in report.groups}
    return template.render(report=report, curves=curves, colors=_COLORS, largest=_largest, rows=_ordered)


def _ordered(group: Group) -> list[Candidate]:
    """Return the candidates in the order of the verdicts, the chosen one first."""
    found = {each.name: each for each in group.candidates}
    return [found[judged.name] for judged in group.judged]


def _largest(group: Group) -> float:
    """Return the highest cost among a group's candidates, for the length of bars; 1 without any."""
    return max((each.usd_per_million or 0.0 for each in group.candidates), default=0.0) or 1.0


def curve(candidates: Sequence[Candidate]) -> str:
    """Return a plot of one user's latency by percentile, as SVG; empty where nothing was measured."""
    shown = [each for each in candidates if each.alone is not None and each.alone.quantiles_ms]
    if not shown:
        return ""
    # Text stays text, so that it follows the page's font and can be found.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        for index, each in enumerate(shown):
            assert each.alone is not None
            shares, times = zip(*each.alone.quantiles_ms, strict=True)
            color = _COLORS[index % len(_COLORS)]
            axes.plot([100 * share for share in shares], times, marker=".", label=each.label, color=color)
        set_log_scale(axes)
        axes.set_xlabel("percent of the requests", color=_GREY)
        axes.set_ylabel("latency, ms", color=_GREY)
        axes.tick_params(colors=_GREY, which="both")
        axes.grid(alpha=0.3)
        for spine in axes.spines.values():
            spine.set_color(_GREY)
        axes.legend(fontsize=8, frameon=False, labelcolor=_GREY)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with a number of digits and thousands separators; a dash for None."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def usd(value: float | None) -> str:
    """Format US dollars; a dash for None."""
    return "-" if value is None else f"${value:,.2f}" if value >= 0.1 else f"${value:.3g}"


def markdown(report: Report) -> str:
    """Return verdicts and one table per group, short enough for a pull request."""
    where = "local" if report.location == "local" else "AWS"
    lines = [
        f"## Inference report: {report.deployment} ({where})",
        "",
        f"{report.made_at:%Y-%m-%d %H:%M} UTC on {report.machine}"
        + (f", commit {report.commit[:10]}" if report.commit else ""),
    ]
    for group in report.groups:
        lines += [
            "",
            f"### {group.title}: {group.chosen or 'none'}",
            "",
            group.headline + ".",
            "",
            "| candidate | what | instance | requests/s | P50 ms | P99 ms | $ a million | quality | n | verdict |",
            "|---|---|---|---:|---:|---:|---:|---|---:|---|",
        ]
        verdicts = {judged.name: judged.reason for judged in group.judged}
        for each in _ordered(group):
            cells = [
                f"**{each.name}**" if each.name == group.chosen else each.name,
                each.what,
                each.instance_type,
                number(each.busy.rate if each.busy else None),
                *_latencies(each.alone),
                usd(each.usd_per_million),
                _quality(each),
                str(each.busy.samples if each.busy else 0),
                verdicts[each.name],
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines += ["", *(f"- {caveat}" for caveat in group.caveats)]
    return "\n".join(lines) + "\n"


def _latencies(load: Load | None) -> tuple[str, str]:
    return ("-", "-") if load is None else (number(load.p50_ms), number(load.p99_ms))


def _quality(each: Candidate) -> str:
    quality = each.quality
    if quality is None:
        return "-"
    kept = "" if quality.kept is None else f", kept {quality.kept:.1%}"
    return f"{quality.metric} {quality.value:.4g}{kept}"
