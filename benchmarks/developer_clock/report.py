"""Result: seconds of each step, targets, and whether they are met."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.developer_clock.new_clone import Commands
from benchmarks.recorded import Result, Sheet, digits, verdict

_COLUMNS = ("step", "median s", "longest s", "n", "target", "verdict")
SYNTH_SECONDS, DEPLOY_SECONDS, DEMO_SECONDS, TESTS_SECONDS = 5.0, 60.0, 600.0, 600.0


@dataclass(frozen=True, slots=True)
class Line:
    """Durations of one step in seconds; `at_most` is its target, or None."""

    figure: str
    seconds: tuple[float, ...]
    at_most: float | None = None

    @property
    def median(self) -> float:
        """Median over all rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target; None without one."""
        return None if self.at_most is None else self.median <= self.at_most


@dataclass(frozen=True, kw_only=True)
class ClockResult(Result):
    """One run on one machine, with the seconds of each round by step.

    commands: None if they did not run.
    """

    width = 120

    deployment: str
    synth: tuple[float, ...]
    up: tuple[float, ...]
    deploy: tuple[float, ...]
    destroy: tuple[float, ...]
    commands: Commands | None

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every step."""
        steps = (
            Line("synthesize all workloads", self.synth, SYNTH_SECONDS),
            Line("deploy all workloads, builds in the cache", self.deploy, DEPLOY_SECONDS),
            Line("start a local account and bootstrap it", self.up),
            Line("destroy all workloads", self.destroy),
        )
        if self.commands is None:
            return steps
        return (
            *steps,
            Line("`scripts/demo` in a new clone", (self.commands.demo,), DEMO_SECONDS),
            Line("`scripts/test` in a new clone", (self.commands.tests,), TESTS_SECONDS),
            Line("`scripts/test` there again", (self.commands.tests_again,), TESTS_SECONDS),
        )

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "deployment": self.deployment,
            "figures": [{**asdict(line), "median": line.median, "met": line.met} for line in self.figures],
        }

    @property
    def title(self) -> str:
        """What is measured, and where."""
        return f"The developer's clock: {self.deployment}, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        notes = (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs.",
            "Synthesis is `python app.py` with assets hashed and templates written; deployment is `cdk deploy --all "
            "--concurrency 4` into a new, bootstrapped local account, which starts every endpoint for real and waits "
            "until it answers. Python environments and build steps are in the cache, from a deployment before that "
            "does not count.",
        )
        if self.commands is None:
            return notes
        return (
            *notes,
            "A new clone has no Python environment, no Node packages and no builds: the commands install all of it "
            "from where pip is configured to look, and train and build the models. `scripts/demo` deploys encoder "
            "and tabular, asks and measures all variants and destroys them; `scripts/test` is lint, types and every "
            "test, in three workers.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                line.figure,
                f"{line.median:.1f}",
                f"{max(line.seconds):.1f}",
                str(len(line.seconds)),
                "" if line.at_most is None else f"at most {digits(line.at_most)}",
                verdict(line.met),
            )
            for line in self.figures
        ]
        return [Sheet(_COLUMNS, _COLUMNS[1:4], rows)]
