"""`python -m benchmarks.encoder.accuracy`: measure the accuracy of INT8 on real questions, by engine."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import recorded
from benchmarks.builds import build
from benchmarks.command import conclude, measuring, say, today
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.recorded import Figure, Sheet, at_least
from local_aws.account import ROOT, default_cache
from model_build.encoder.squad import DatasetError, document

ENGINES = ("vnni", "openvino", "onnxruntime")
"""Engines to score, ours first."""
_ADAPTER_SCORES = ROOT / "model_build/encoder/demo_model/adapter/scores.json"
_LEAST_KEPT = 0.995
"""Target fraction of FP32's F1. The build itself fails below 0.99, MLPerf's limit, but here every engine is shown."""
_NO_GATE = 0.5


@dataclass(frozen=True, slots=True)
class Scored:
    """An engine's INT8 and FP32 scores on the same questions; F1 and exact match in percent."""

    engine: str
    questions: int
    fp32_f1: float
    int8_f1: float
    fp32_exact: float
    int8_exact: float

    @property
    def kept(self) -> float:
        """INT8's F1 divided by FP32's."""
        return self.int8_f1 / self.fp32_f1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run on one machine.

    date: ISO 8601.
    """

    date: str
    machine: Machine
    scored: tuple[Scored, ...]

    @property
    def lines(self) -> tuple[Figure, ...]:
        """Fraction of FP32's F1 that INT8 keeps; ours has a target."""
        ours, *others = self.scored
        return (
            at_least(f"F1 kept by {ours.engine}", ours.kept, _LEAST_KEPT),
            *(Figure(f"F1 kept by {each.engine}", each.kept) for each in others),
        )

    @property
    def met(self) -> bool:
        """Whether every target is met."""
        return all(line.met is not False for line in self.lines)

    def title(self) -> str:
        """Say what is compared, and where."""
        return "Accuracy of INT8 on SQuAD by engine, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out; one or two sentences each."""
        return (
            f"Machine: {self.machine.describe()}.",
            "The demo model (MiniLM-L6 with a question-answering adapter) on SQuAD v1.1's development set: first the "
            "articles that the adapter never saw, then those that it was trained on. Those that calibrate the engines "
            "that are calibrated are not asked. A BERT-base fine-tuned on SQuAD was not to be had here.",
            "FP32 is each engine's own (vnni's is OpenVINO's); windows, span search and score are the product's.",
        )

    def summary(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "label": "local",
            "date": self.date,
            "machine": asdict(self.machine),
            "engines": [{**asdict(each), "kept": each.kept} for each in self.scored],
            "figures": [asdict(line) for line in self.lines],
            "met": self.met,
        }


def main(
    squad: Annotated[Path, typer.Argument(envvar="SQUAD_DEV", help="SQuAD v1.1's development set, .json or .json.gz")],
    cache: Annotated[
        Path, typer.Option("--cache", default_factory=default_cache, help="folder that keeps environments and builds")
    ],
    questions: Annotated[int, typer.Option(min=100, help="how many of the questions are asked, from the first")] = 2000,
    results: Annotated[
        Path, typer.Option(help="folder of the recorded results", show_default="results beside the benchmark")
    ] = Path(__file__).parent / "results",
) -> None:
    """Build the demo model with each engine and score FP32 and INT8 on the same real questions.

    Exits with 1 when INT8 by our engine keeps less than 99.5 % of F1, and with 2 when nothing could be measured.
    """
    with measuring(), tempfile.TemporaryDirectory(prefix="encoder-") as name:
        data = _split(squad, Path(name))
        scored = []
        for engine in ENGINES:
            say(f"building and scoring with {engine}")
            recipe = {
                "source": {"kind": "demo"},
                "engine": engine,
                "data": data,
                "evaluation_questions": questions,
                "gate": {"min_f1_ratio": _NO_GATE},
            }
            made = json.loads((build("encoder", recipe, cache) / "summary.json").read_text())["accuracy"]
            fp32, int8 = made["fp32"], made["int8"]
            scored.append(
                Scored(engine, made["questions"], fp32["f1"], int8["f1"], fp32["exact_match"], int8["exact_match"])
            )
    result = Result(date=today(), machine=Machine.read(), scored=tuple(scored))
    conclude(result, show, record(result, results))


def _split(squad: Path, folder: Path) -> dict[str, str]:
    """Return articles to calibrate on and others to score, as the recipe's data; raises BenchmarkError.

    Articles that the adapter has never seen are scored first.
    """
    scores = json.loads(_ADAPTER_SCORES.read_text())
    unseen, calibrating = scores["evaluation"]["articles"], scores["calibration"]["articles"]
    try:
        whole = document(squad)
        articles = sorted(whole["data"], key=lambda article: article["title"] not in unseen)
    except (DatasetError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{squad} is not SQuAD v1.1's development set ({error}): name its file") from error
    paths = {"calibration": folder / "calibration.json", "evaluation": folder / "evaluation.json"}
    for path, wanted in zip(paths.values(), (True, False), strict=True):
        part = [article for article in articles if (article["title"] in calibrating) == wanted]
        path.write_text(json.dumps(whole | {"data": part}))
    return {"kind": "squad", **{name: str(path) for name, path in paths.items()}}


def show(result: Result, console: Console) -> None:
    """Print the tables and their notes."""
    recorded.show(result, _sheets(result), console)


def record(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write the result as JSON and as Markdown tables; a later run replaces both."""
    return recorded.record(result, _sheets(result), folder, "accuracy-local")


def _sheets(result: Result) -> list[Sheet]:
    columns = ("engine", "questions", "FP32 F1", "INT8 F1", "FP32 EM", "INT8 EM")
    rows = [
        (
            each.engine,
            str(each.questions),
            *(f"{score:.2f}" for score in (each.fp32_f1, each.int8_f1, each.fp32_exact, each.int8_exact)),
        )
        for each in result.scored
    ]
    lines = [(line.figure, f"{line.value:.4f}", line.target, recorded.verdict(line.met)) for line in result.lines]
    return [
        Sheet(columns, columns[1:], rows),
        Sheet(("figure", "value", "target", "verdict"), ("value",), lines),
    ]


if __name__ == "__main__":
    typer.run(main)
