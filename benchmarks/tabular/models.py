"""Models and rows for the comparison, created by the project's own build."""

import csv
import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from containers.tabular.features import FEATURES, MODEL_FILE, archive_name
from local_aws.account import ROOT

_BUILD_VARIABLES = frozenset({"RECIPE", "ARTIFACT_BUCKET", "ARTIFACT_PREFIX"})
"""Variables that configure the build; a benchmark passes its own recipe instead."""


@dataclass(frozen=True, slots=True)
class Model:
    """A state's extracted archive, its held-out rows as CSV without line endings, and XGBoost's predictions."""

    name: str
    folder: Path
    rows: tuple[str, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Models:
    """Models in alphabetical order, and the held-out rows of all states."""

    models: tuple[Model, ...]
    rows: tuple[str, ...]


def run_build(folder: Path, recipe: str = "{}") -> Path:
    """Build every state's model by a recipe in JSON, which uses generated data unless it says otherwise.

    Returns the folder with `requests.csv` and `models/`; raises BenchmarkError.
    """
    log, output = folder / "build.log", folder / "build"
    command = [
        *(sys.executable, "-m", "model_build.tabular", "--recipe", recipe),
        *("--output", str(output), "--cache", str(folder / "steps")),
    ]
    settings = {name: value for name, value in os.environ.items() if name not in _BUILD_VARIABLES}
    with process_group(command, cwd=ROOT, environment=settings, log=log) as build:
        if build.wait():
            raise BenchmarkError(f"the build of the models failed: {last_lines(log)}")
    return output


def build_models(count: int, folder: Path) -> Models:
    """Build every state's model from generated data and extract the first `count`; raises BenchmarkError."""
    output = run_build(folder)
    with (output / "requests.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    states = sorted({line["state"] for line in lines})[:count]
    if len(states) < count:
        raise BenchmarkError(f"the build made requests for {len(states)} states, {count} are needed")
    return Models(
        tuple(_model(state, lines, output / "models", folder / "models") for state in states),
        tuple(map(_row, lines)),
    )


def _model(state: str, lines: Sequence[dict[str, str]], archives: Path, folder: Path) -> Model:
    extracted = folder / state
    extracted.mkdir(parents=True)
    with tarfile.open(archives / archive_name(state)) as archive:
        content = archive.extractfile(MODEL_FILE)
        if content is None:
            raise BenchmarkError(f"{archive_name(state)} has no {MODEL_FILE}")
        (extracted / MODEL_FILE).write_bytes(content.read())
    own = [line for line in lines if line["state"] == state]
    return Model(state, extracted, tuple(map(_row, own)), tuple(float(line["prediction"]) for line in own))


def _row(line: dict[str, str]) -> str:
    return ",".join(line[name] for name in FEATURES)
