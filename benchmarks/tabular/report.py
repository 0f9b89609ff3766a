"""Result: figures of both servers, their ratio, the target, and whether it is met."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.memory import TreeMemory
from benchmarks.recorded import Result, Sheet, digits, verdict
from benchmarks.tabular.measure import LOAD_TURN, TOLERANCE, TURN, WARM_UP, Agreement, Times
from benchmarks.tabular.programs import JVM_OPTIONS, Packages

LOAD_TARGET, LATENCY_TARGET, MEMORY_TARGET = 50.0, 2.0, 20.0
_COLUMNS = ("figure", "unit", "our container", "Multi Model Server", "ratio", "target", "verdict")
_PACKAGES: Mapping[Packages, str] = {
    "lean": "Its workers have NumPy, SciPy and XGBoost only: leaner than SageMaker's built-in image, whose pandas and "
    "scikit-learn XGBoost imports as well.",
    "built-in": "Its workers have pandas and scikit-learn, as in SageMaker's built-in image; XGBoost imports both.",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one server.

    idle, loaded: its memory before and after all models and requests.
    """

    loads: Times
    invocations: Times
    idle: TreeMemory
    loaded: TreeMemory


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both servers, where lower is better; `at_least` is the target for the ratio, or None."""

    figure: str
    unit: str
    container: float
    mms: float
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """Multi Model Server's figure divided by the container's."""
        return self.mms / self.container

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.at_least is None else self.ratio >= self.at_least


@dataclass(frozen=True, kw_only=True)
class TabularResult(Result):
    """One run on one machine.

    requests: requests to each server, after the warm-up.
    """

    width = 120

    java: str
    packages: Packages
    models: int
    requests: int
    container: Measured
    mms: Measured
    agreement: Agreement

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every figure except the agreement of the responses."""
        ours, theirs = self.container, self.mms
        loaded = f"{self.models} models"
        return (
            Line("model load, median", "ms", _median(ours.loads), _median(theirs.loads), LOAD_TARGET),
            Line("model load, longest", "ms", ours.loads.longest_ms, theirs.loads.longest_ms),
            Line("one row, warm, P50", "ms", _median(ours.invocations), _median(theirs.invocations), LATENCY_TARGET),
            Line(
                "one row, P50 of the worst turn", "ms", *(side.invocations.worst_turn_ms() for side in (ours, theirs))
            ),
            Line("one row, P99", "ms", ours.invocations.percentile_ms(99), theirs.invocations.percentile_ms(99)),
            Line(f"memory, {loaded}", "MB", _mb(ours.loaded), _mb(theirs.loaded), MEMORY_TARGET),
            Line("memory, no model", "MB", _mb(ours.idle), _mb(theirs.idle)),
            Line(f"PSS, {loaded}", "MB", ours.loaded.pss_bytes / 1e6, theirs.loaded.pss_bytes / 1e6),
            Line(f"RSS, {loaded}", "MB", ours.loaded.rss_bytes / 1e6, theirs.loaded.rss_bytes / 1e6),
            Line(f"processes, {loaded}", "", ours.loaded.processes, theirs.loaded.processes),
        )

    @property
    def met(self) -> bool:
        """Whether every target is met and the responses are equal."""
        return super().met and self.agreement.equal

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "java": self.java,
            "jvm_options": JVM_OPTIONS,
            "packages": self.packages,
            "models": self.models,
            "requests": self.requests,
            "figures": [{**asdict(line), "ratio": line.ratio, "met": line.met} for line in self.figures],
            "answers": {**asdict(self.agreement), "tolerance": TOLERANCE, "equal": self.agreement.equal},
        }

    @property
    def title(self) -> str:
        """What is compared, and where."""
        return f"tabular beside Multi Model Server, {self.models} models, {self.packages} packages, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs, ratios less so.",
            f"Multi Model Server 1.1.11, {self.java}, JVM options of its own Docker image ({JVM_OPTIONS}), one worker "
            "for each model, XGBoost with one thread and `inplace_predict`. These favour it: SageMaker's built-in "
            f"container gives the JVM more heap and makes a DMatrix of every request. {_PACKAGES[self.packages]}",
            "Both servers run side by side and get the same folders, rows and order through one kept-alive connection "
            f"each, in turns of {LOAD_TURN} models when loading and of {TURN} requests for latency, after {WARM_UP} "
            "requests to each that do not count. A time is what this client saw.",
            "Memory counts every page of a server's process tree once, after the last request: PSS summed over several "
            "processes, RSS of a single one, whose PSS would leave out its part of pages shared with other programs.",
            f"Answers: {self.agreement.answers} of each server, every model with its own rows one at a time and with "
            f"the rows of all states in one request; from XGBoost's own answers at build time they differ by at most "
            f"{self.agreement.largest_from_build:.1e}.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                line.figure,
                line.unit,
                digits(line.container),
                digits(line.mms),
                f"{line.ratio:.1f}",
                "" if line.at_least is None else f"at least {line.at_least:g}",
                verdict(line.met),
            )
            for line in self.figures
        ]
        largest, equal = f"{self.agreement.largest:.1e}", verdict(self.agreement.equal)
        rows.append(("answers, largest difference", "", largest, "", "", f"at most {TOLERANCE:g}", equal))
        return [Sheet(_COLUMNS, _COLUMNS[2:5], rows)]

    @property
    def stem(self) -> str:
        """Name of the recorded files, which says how many models and which packages."""
        return f"local-{self.models}-models-{self.packages}"


def _median(times: Times) -> float:
    return times.percentile_ms(50)


def _mb(memory: TreeMemory) -> float:
    return memory.footprint_bytes / 1e6
