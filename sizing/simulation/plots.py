"""Plots of a simulation: traffic, instances, and latency over time."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from sizing.simulation.result import Result


def plot(result: Result, path: Path) -> None:
    """Write a picture in the format of the file's suffix, such as PNG or SVG."""
    series = result.series
    hours, unit = (series.seconds / 3600, "hours") if result.seconds >= 7200 else (series.seconds, "seconds")
    figure = Figure(figsize=(11, 9), layout="constrained")
    traffic, instances, latency = figure.subplots(3, 1, sharex=True)
    traffic.fill_between(hours, series.rate, color="tab:blue", alpha=0.3, label="requests")
    traffic.plot(hours, series.errors, color="tab:red", label="errors")
    traffic.set_ylabel("per second")
    instances.step(hours, series.desired, where="pre", linestyle="--", color="tab:gray", label="paid")
    instances.step(hours, series.ready, where="pre", color="tab:green", label="in service")
    instances.set_ylabel("instances")
    latency.plot(hours, series.p50_ms, color="tab:blue", label="P50")
    latency.plot(hours, series.p99_ms, color="tab:orange", label="P99")
    set_log_scale(latency)
    latency.set_ylabel("latency, ms")
    latency.set_xlabel(unit)
    instances.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (traffic, instances):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for axes in (traffic, instances, latency):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")
    figure.suptitle(
        f"{result.traffic}, simulated by {result.mode}: {result.requests:,.0f} requests, "
        f"{result.error_share:.2%} errors, P99 {result.p99_ms:,.0f} ms, "
        f"{result.instance_hours:,.1f} instance-hours, ${result.usd_per_day:,.2f} per day"
    )
    figure.savefig(path, dpi=110)


def set_log_scale(axes: Axes) -> None:
    """Make the y-axis logarithmic, with labels such as 30 instead of powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
