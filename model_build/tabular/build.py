"""The build: read, check and split the data, train per state, score, package."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from pydantic import TypeAdapter

import containers.tabular
import model_build.tabular
from containers.serving.cpu import available_cores
from containers.tabular.features import FEATURES
from model_build import owned_folders
from model_build.artifact import Artifact
from model_build.steps import StepCache, code_hash
from model_build.tabular.booster import stamp
from model_build.tabular.chart import draw
from model_build.tabular.data import Table, fetch, parse
from model_build.tabular.package import pack_model, write_requests
from model_build.tabular.recipe import TabularRecipe
from model_build.tabular.schema import STATES
from model_build.tabular.train import Report, StateResult, Training, train_states

WORKLOAD = "tabular"
MODELS_FOLDER = "models"
CHART_FILE = "accuracy.png"
REQUESTS_FILE = "requests.csv"
_REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data of a build.

    description: source of the table.
    sha256: hash of the table, in hex.
    rows: number of rows.
    other_area_codes: rows whose area code is not in AREA_CODES.
    """

    description: str
    sha256: str
    rows: int
    other_area_codes: int


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build: an archive per state, the chart, the requests, and the report."""

    recipe: TabularRecipe
    data: DataFacts
    report: Report
    archives: dict[str, Artifact]
    chart: Path
    requests: Path

    def files(self) -> dict[str, Path]:
        """Return every file to upload by its name below the build's prefix."""
        models = {f"{MODELS_FOLDER}/{artifact.path.name}": artifact.path for artifact in self.archives.values()}
        return {**models, CHART_FILE: self.chart, REQUESTS_FILE: self.requests}

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json` as JSON values."""
        return {
            "workload": WORKLOAD,
            "source": self.data.description,
            "data": asdict(self.data),
            "recipe": self.recipe.model_dump(mode="json"),
            "versions": _versions(),
            "features": list(FEATURES),
            "states": [asdict(result) for result in self.report.states],
            "accuracy": {"validation": asdict(self.report.validation), "test": asdict(self.report.test)},
            "fallbacks": [asdict(fallback) for fallback in self.report.fallbacks],
            "artifacts": {
                artifact.path.name: {"state": state, **artifact.facts()} for state, artifact in self.archives.items()
            },
        }


def build(recipe: TabularRecipe, cache: Path, output: Path, log: Callable[[str], object]) -> BuildResult:
    """Build `output/models/churn-xgb-<state>.tar.gz` for every state, `accuracy.png` and `requests.csv`.

    `cache` keeps the results of both steps by the hash of their inputs. Raises BuildError for a table that cannot be
    read, is not valid, or is too small for the recipe's shares.
    """
    steps = StepCache(cache, log)
    code = code_hash(Path(model_build.tabular.__file__).parent, Path(containers.tabular.__file__).parent)
    source = fetch(recipe.source)
    common = {"code": code, "versions": _versions()}
    checked = steps.run("data", {"sha256": source.sha256, **common}, lambda to: parse(source).save(to))
    table = Table.load(checked.folder)
    facts = DataFacts(source.name, source.sha256, len(table.labels), table.other_area_codes)
    log(f"data: {facts.description}: {facts.rows} rows")
    if facts.other_area_codes:
        log(
            f"data: {facts.other_area_codes} rows have area codes without a feature: their area code features are all 0"
        )
    trained = steps.run(
        "train",
        {"of": checked.key, "recipe": recipe.model_dump(mode="json")},
        lambda to: _save(train_states(table, recipe, available_cores()), table, recipe, to),
    )
    report = TypeAdapter(Report).validate_json((trained.folder / _REPORT_FILE).read_bytes())
    for fallback in report.fallbacks:
        log(f"train: {fallback.state} gets the model trained on all states: {fallback.reason}")
    owned_folders.replace(output / MODELS_FOLDER)
    archives = {
        state: pack_model((trained.folder / state).read_bytes(), state, output / MODELS_FOLDER) for state in STATES
    }
    draw(report, facts.description, output / CHART_FILE)
    shutil.copyfile(trained.folder / REQUESTS_FILE, output / REQUESTS_FILE)
    return BuildResult(recipe, facts, report, archives, output / CHART_FILE, output / REQUESTS_FILE)


def _save(training: Training, table: Table, recipe: TabularRecipe, folder: Path) -> None:
    fallbacks = {fallback.state: fallback.reason for fallback in training.report.fallbacks}
    for result in training.report.states:
        attributes = _attributes(result, recipe, fallbacks.get(result.state))
        (folder / result.state).write_bytes(stamp(training.models[result.state], attributes))
    write_requests(table, training.split.test, training.test_predictions, folder / REQUESTS_FILE)
    (folder / _REPORT_FILE).write_text(json.dumps(asdict(training.report)))


def _attributes(result: StateResult, recipe: TabularRecipe, fallback: str | None) -> dict[str, str]:
    attributes = {
        "workload": WORKLOAD,
        "state": result.state,
        "recipe": json.dumps(recipe.model_dump(mode="json"), sort_keys=True),
        "rows": json.dumps(
            {"train": result.train_rows, "validation": result.validation.rows, "test": result.test.rows}
        ),
        "accuracy": json.dumps({"validation": asdict(result.validation), "test": asdict(result.test)}),
    }
    return attributes if fallback is None else {**attributes, "fallback": fallback}


def _versions() -> dict[str, str]:
    # scikit-learn determines the splits, and XGBoost the bytes of a model.
    return {
        "xgboost": xgb.__version__,
        "numpy": np.__version__,
        **{name: importlib.metadata.version(name) for name in ("pandas", "scikit-learn")},
    }
