"""Result: predictions compared with observations, both modes, and speed, with targets."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.recorded import Result, Sheet, digits, verdict
from benchmarks.scaling_simulation.account_run import BOUNDS, POLICY, TIME_SCALE, Watched
from benchmarks.scaling_simulation.modes import Agreement, Speed
from sizing.service_times import ServiceTimes
from sizing.simulation.observed import Look, instance_seconds, milestones_in, milestones_of
from sizing.simulation.result import Result as Simulated

CHANGE_SECONDS, INSTANCES, MEDIAN = 3.0, 0.1, 0.25
MODES_P50, MODES_INSTANCES, MODES_ERRORS = 0.05, 0.03, 0.1
EVENTS_SECONDS, DAY_SECONDS = 300.0, 60.0
_COLUMNS = ("figure", "unit", "seen", "foreseen", "between", "beyond", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Line:
    """A figure seen in a real run, or simulated by events, and the one predicted, or simulated in aggregate.

    lowest, highest: range of the predictions over all seeds.
    most: largest `off` that meets the target; None without a target.
    relative: whether `off` is a fraction of the figure seen.
    """

    figure: str
    unit: str
    seen: float | None
    foreseen: float | None
    lowest: float | None
    highest: float | None
    most: float | None
    relative: bool = True

    @property
    def off(self) -> float | None:
        """Distance from the predicted range to the figure seen, in its unit or relative; None if either is missing."""
        if self.seen is None or self.lowest is None or self.highest is None:
            return None
        beyond = max(self.lowest - self.seen, 0.0) + min(self.highest - self.seen, 0.0)
        if not self.relative:
            return beyond
        return beyond / self.seen if self.seen else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.most is None:
            return None
        return self.off is not None and abs(self.off) <= self.most


@dataclass(frozen=True, kw_only=True)
class ScalingResult(Result):
    """One run on one machine.

    watched: real runs, each with its simulations with several seeds.
    """

    title = "The autoscaling simulation beside the local account's scaling, local"

    service: ServiceTimes
    starting_seconds: float
    watched: tuple[tuple[Watched, tuple[Simulated, ...]], ...]
    agreements: tuple[Agreement, ...]
    speeds: tuple[Speed, ...]

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every figure with two values."""
        return (
            *(line for run, foreseen in self.watched for line in _run_lines(run, foreseen)),
            *(line for agreement in self.agreements for line in _mode_lines(agreement)),
        )

    @property
    def met(self) -> bool:
        """Whether every target is met."""
        return super().met and all(each.seconds <= _limit(each) for each in self.speeds)

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        seeds = len(self.watched[0][1])
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs.",
            "Seen: a real endpoint of the local account, whose container serves one request at a time for a log-normal "
            f"time; requests are sent when they are due whatever the answers, and alarms pass {TIME_SCALE} times "
            f"faster than on AWS. Target tracking of {POLICY.target:g} invocations a minute and instance, "
            f"{BOUNDS.minimum} to {BOUNDS.maximum} instances.",
            f"Foreseen: from the rates of the traffic, the service times of one client alone (mean "
            f"{self.service.mean_ms:.1f} ms), and the {self.starting_seconds:.2f} s that instances take to start, all "
            f"known before the run. Figures are medians of {seeds} simulations with other "
            "requests and other beginnings of the alarms' minutes, which are chance, and the range of all of them.",
            f"Beyond: how far what was seen is outside the range. Moments may be so by {CHANGE_SECONDS:g} s, which are "
            "as many of the alarms' minutes. P90 and P99 have no target: they rest on the seconds of overload.",
            "Modes: the same scaling endpoint simulated request by request (seen) and second by second (foreseen).",
        )

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "service_ms": {"mean": self.service.mean_ms, "scv": self.service.scv},
            "starting_seconds": self.starting_seconds,
            "lines": [{**asdict(line), "off": line.off, "met": line.met} for line in self.figures],
            "speeds": [{**asdict(speed), "limit_seconds": _limit(speed)} for speed in self.speeds],
            "changes": [
                {"traffic": run.trace.name, "changes": [asdict(look) for look in _changes(run.looks)]}
                for run, _ in self.watched
            ],
        }

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        speeds = [
            (
                each.what, f"{each.requests:,.0f}", f"{each.instances:,}", f"{each.seconds:.1f}",
                f"at most {_limit(each):g} s", verdict(each.seconds <= _limit(each)),
            )
            for each in self.speeds
        ]  # fmt: skip
        return [
            Sheet(_COLUMNS, _COLUMNS[2:6], [_row(line) for line in self.figures]),
            Sheet(
                ("simulated", "requests", "most instances", "seconds", "target", "verdict"),
                ("requests", "most instances", "seconds"),
                speeds,
            ),
        ]


def _run_lines(run: Watched, foreseen: tuple[Simulated, ...]) -> list[Line]:
    name, seen, expected = run.trace.name, milestones_of(run.looks), [milestones_in(each) for each in foreseen]
    moments: tuple[tuple[str, float | None, list[float | None]], ...] = (
        ("more than one instance from", seen.grew, [each.grew for each in expected]),
        ("most instances from", seen.at_most, [each.at_most for each in expected]),
        ("one instance again from", seen.back, [each.back for each in expected]),
    )
    return [
        *(
            _ranged(f"{name}: {what}", "s", moment, foretold, CHANGE_SECONDS, relative=False)
            for what, moment, foretold in moments
        ),
        _ranged(f"{name}: most instances", "", seen.most, [each.most for each in expected], 0.0, relative=False),
        _ranged(
            f"{name}: instance-seconds",
            "s",
            instance_seconds(run.looks),
            [3600 * each.instance_hours for each in foreseen],
            INSTANCES,
        ),
        *(
            _ranged(
                f"{name}: P{percent}",
                "ms",
                run.percentile_ms(percent),
                [getattr(each, f"p{percent}_ms") for each in foreseen],
                most,
            )
            for percent, most in ((50, MEDIAN), (90, None), (99, None))
        ),
        _ranged(
            f"{name}: failed of {len(run.latencies_ms) + run.failed}",
            "",
            run.failed,
            [each.rejected + each.timed_out for each in foreseen],
            0.0,
            relative=False,
        ),
    ]


def _ranged(
    figure: str,
    unit: str,
    seen: float | None,
    foreseen: Sequence[float | None],
    most: float | None,
    *,
    relative: bool = True,
) -> Line:
    known = [each for each in foreseen if each is not None]
    if not known:
        return Line(figure, unit, seen, None, None, None, most, relative)
    return Line(figure, unit, seen, statistics.median(known), min(known), max(known), most, relative)


def _mode_lines(agreement: Agreement) -> list[Line]:
    one, other = agreement.events, agreement.aggregated
    name = f"modes, {one.traffic}, {agreement.routing}"
    overloaded = one.error_share > 0.001
    return [
        _line(f"{name}: P50", "ms", one.p50_ms, other.p50_ms, MODES_P50),
        _line(f"{name}: P99", "ms", one.p99_ms, other.p99_ms, None),
        _line(f"{name}: instance-hours", "h", one.instance_hours, other.instance_hours, MODES_INSTANCES),
        *(
            [_line(f"{name}: errors", "%", 100 * one.error_share, 100 * other.error_share, MODES_ERRORS)]
            if overloaded
            else []
        ),
    ]


def _line(figure: str, unit: str, seen: float, foreseen: float, most: float | None) -> Line:
    return Line(figure, unit, seen, foreseen, foreseen, foreseen, most)


def _changes(looks: Sequence[Look]) -> list[Look]:
    """Return the first observation and every one with another number of instances."""
    return [
        look
        for before, look in zip([None, *looks], looks, strict=False)
        if before is None or (before.desired, before.ready) != (look.desired, look.ready)
    ]


def _limit(speed: Speed) -> float:
    return EVENTS_SECONDS if speed.what.startswith("events") else DAY_SECONDS


def _row(line: Line) -> tuple[str, ...]:
    off = "" if line.off is None else f"{line.off:+.1%}" if line.relative else f"{line.off:+.2g}"
    most = "" if line.most is None else f"within {line.most:.0%}" if line.relative else f"within {line.most:g}"
    seen, foreseen = ("" if value is None else digits(value) for value in (line.seen, line.foreseen))
    ranged = line.lowest is not None and line.highest is not None and line.lowest < line.highest
    spread = f"{digits(line.lowest or 0.0)} to {digits(line.highest or 0.0)}" if ranged else ""
    return line.figure, line.unit, seen, foreseen, spread, off, most, verdict(line.met)
