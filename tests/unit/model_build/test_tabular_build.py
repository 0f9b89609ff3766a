"""Tables are checked cell by cell, every state gets a model of its own, and equal inputs give equal archives."""

import csv
import json
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import typer
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from containers.tabular.features import FEATURES, MODEL_FILE, archive_name
from model_build.errors import BuildError
from model_build.tabular import __main__ as command
from model_build.tabular import build as build_module
from model_build.tabular import train as train_module
from model_build.tabular.booster import Job, fit, load, predict
from model_build.tabular.build import BuildResult, build
from model_build.tabular.data import Table, fetch, parse
from model_build.tabular.generate import generate
from model_build.tabular.package import pack_model, upload, write_requests
from model_build.tabular.recipe import FileSource, GeneratedSource, S3Source, TabularRecipe
from model_build.tabular.schema import STATES
from model_build.tabular.train import Fallback, split_rows, train_states
from tests.unit.model_build.fake_s3 import FakeS3
from tests.unit.model_build.fake_s3 import s3 as s3

REAL_TABLE = Path(os.environ.get("CHURN_TABLE", Path(__file__).parents[4] / "shared/data/churn.csv"))
SMALL = GeneratedSource(customers=2040)
Labels = NDArray[np.int8]
QUICK = TabularRecipe(source=SMALL, num_round=4)


@pytest.fixture(scope="module")
def small() -> Table:
    return parse(fetch(SMALL))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildResult]:
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "available_cores", lambda: 1)
        yield build(QUICK, folder / "steps", folder / "out", lambda _line: None)


def test_a_recipe_has_working_defaults_and_refuses_what_makes_no_sense() -> None:
    recipe = TabularRecipe()
    assert recipe.source == GeneratedSource(customers=5100, seed=0)
    assert (recipe.num_round, recipe.test_share, recipe.validation_share, recipe.seed) == (20, 0.1, 0.1, 42)
    assert S3Source().url == "s3://sagemaker-sample-files/datasets/tabular/synthetic/churn.txt"
    for wrong, message in (
        ({"source": {"kind": "generated", "customers": 1019}}, "greater than or equal to 1020"),
        ({"source": {"kind": "s3", "url": "https://bucket/key"}}, "source.s3.url"),
        ({"source": {"kind": "ftp"}}, "source"),
        ({"test_share": 0}, "test_share"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(ValidationError, match=message):
            TabularRecipe.model_validate(wrong)


def test_a_table_survives_being_saved(tmp_path: Path, small: Table) -> None:
    small.save(tmp_path)
    loaded = Table.load(tmp_path)
    assert (loaded.features == small.features).all()
    assert (loaded.labels == small.labels).all()
    assert (loaded.states == small.states).all()


def test_generated_customers_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert generate(SMALL) == generate(SMALL)
    assert generate(SMALL) != generate(SMALL.model_copy(update={"seed": 1}))


@settings(max_examples=8, deadline=None)
@given(customers=st.integers(1020, 3000), seed=st.integers(0, 1000))
def test_every_state_has_twenty_generated_customers_and_both_classes(customers: int, seed: int) -> None:
    table = parse(fetch(GeneratedSource(customers=customers, seed=seed)))
    assert len(table.labels) == customers
    assert table.other_area_codes == 0
    assert 0.10 <= table.labels.mean() <= 0.18
    for state in STATES:
        labels = table.labels[table.states == state]
        assert len(labels) >= 20
        assert 2 <= labels.sum() <= len(labels) - 2


def test_generated_columns_are_spelled_as_the_public_sample_spells_them() -> None:
    header = generate(SMALL).decode().splitlines()[0]
    assert header.startswith("State,Account Length,Area Code,Phone,Int'l Plan,VMail Plan,VMail Message,Day Mins,")
    assert header.endswith("Intl Mins,Intl Calls,Intl Charge,CustServ Calls,Churn?")


def test_a_generated_states_own_model_beats_the_model_of_all_states() -> None:
    table = parse(fetch(GeneratedSource()))
    training = train_states(table, TabularRecipe(), workers=1)
    rows = training.split.train
    everyone = fit(Job(table.features[rows], table.labels[rows], TabularRecipe()))
    answers = predict(everyone, table.features[training.split.test])
    own, shared = training.report.test.auc, roc_auc_score(table.labels[training.split.test], answers)
    assert own is not None
    assert own > 0.8
    assert own > shared + 0.1
    assert training.report.fallbacks == ()


def test_the_split_takes_a_tenth_of_every_state_for_the_test_and_keeps_the_churn_share(small: Table) -> None:
    split = split_rows(small, QUICK)
    assert sorted(np.concatenate([split.train, split.validation, split.test]).tolist()) == list(range(2040))
    for state in STATES:
        of_state = int((small.states == state).sum())
        assert abs(int((small.states[split.test] == state).sum()) - 0.1 * of_state) < 1
    rest = np.concatenate([split.train, split.validation])
    assert small.labels[split.validation].mean() == pytest.approx(small.labels[rest].mean(), abs=0.01)


def test_the_same_table_gives_the_same_models_in_one_process_and_in_two(small: Table) -> None:
    one, two = train_states(small, QUICK, workers=1), train_states(small, QUICK, workers=2)
    assert one.models == two.models
    assert one.report == two.report


def test_scores_are_of_the_states_own_test_rows_and_auc_needs_both_classes(small: Table) -> None:
    training = train_states(small, QUICK, workers=1)
    report = training.report
    assert [result.state for result in report.states] == list(STATES)
    assert sum(result.test.rows for result in report.states) == report.test.rows == len(training.split.test)
    one_class = 0
    for result in report.states:
        labels = small.labels[training.split.test][small.states[training.split.test] == result.state]
        one_class += len(set(labels.tolist())) == 1
        assert (result.test.auc is None) == (len(set(labels.tolist())) == 1)
    assert 0 < one_class < len(STATES)
    wrong = sum((result.test.error or 0) * result.test.rows for result in report.states)
    assert report.test.error == pytest.approx(wrong / report.test.rows)


def test_a_state_without_both_classes_gets_the_model_of_all_states_and_is_listed(small: Table) -> None:
    labels = np.where(small.states == "CA", 0, np.where(small.states == "DC", 1, small.labels)).astype(np.int8)
    kept = small.states != "WY"
    table = Table(small.features[kept], labels[kept], small.states[kept])
    training = train_states(table, QUICK, workers=1)
    rows = {result.state: result.train_rows for result in training.report.states}
    assert training.report.fallbacks == (
        Fallback("CA", f"its training rows ({rows['CA']}) are all of customers who stayed"),
        Fallback("DC", f"its training rows ({rows['DC']}) are all of customers who left"),
        Fallback("WY", "it has no training rows"),
    )
    assert rows["WY"] == 0
    assert training.models["CA"] == training.models["DC"] == training.models["WY"] != training.models["NY"]
    wyoming = next(result for result in training.report.states if result.state == "WY")
    assert (wyoming.test.rows, wyoming.test.auc, wyoming.test.error) == (0, None, None)


def test_a_states_only_row_is_for_training(small: Table) -> None:
    first = int(np.flatnonzero(small.states == "WY")[0])
    kept = (small.states != "WY") | (np.arange(len(small.states)) == first)
    table = Table(small.features[kept], small.labels[kept], small.states[kept])
    split = split_rows(table, QUICK)
    assert "WY" in table.states[np.concatenate([split.train, split.validation])]
    assert "WY" not in table.states[split.test]


def test_too_few_rows_for_the_shares_are_refused_with_the_numbers(small: Table) -> None:
    def first(count: int, labels: Callable[[Labels], Labels] = lambda same: same) -> Table:
        return Table(small.features[:count], labels(small.labels[:count]), small.states[:count])

    with pytest.raises(BuildError, match=r"test_share is 0\.01: of 2040 rows it takes 21.*each of 51 states"):
        split_rows(small, QUICK.model_copy(update={"test_share": 0.01}))
    with pytest.raises(BuildError, match=r"validation_share is 0\.01: of 36 rows it takes 1.*each of 2 classes"):
        split_rows(first(40), QUICK.model_copy(update={"validation_share": 0.01}))
    with pytest.raises(BuildError, match=r"column 'Churn\?': 36 rows are left.*fewer than 2 of them"):
        split_rows(first(40, np.zeros_like), QUICK)


def test_a_training_process_that_dies_is_reported_with_its_likely_cause(
    small: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DeadPool:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> "DeadPool":
            return self

        def __exit__(self, *_: object) -> None: ...
        def map(self, *_: object) -> Iterator[bytes]:
            raise BrokenProcessPool("killed")

    monkeypatch.setattr(train_module, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(BuildError, match="a training process died, most often for lack of memory"):
        train_states(small, QUICK, workers=2)


def test_an_archive_holds_one_file_that_xgboost_loads_without_an_extension(tmp_path: Path, built: BuildResult) -> None:
    with tarfile.open(built.archives["CA"].path) as tar:
        assert tar.getnames() == [MODEL_FILE]
        content = tar.extractfile(MODEL_FILE)
        assert content is not None
        (tmp_path / MODEL_FILE).write_bytes(content.read())
    booster = xgb.Booster()
    with warnings.catch_warnings():
        # XGBoost says that it takes a file without an extension for UBJSON, unless its verbosity is 0.
        warnings.simplefilter("ignore")
        booster.load_model(tmp_path / MODEL_FILE)
    assert booster.feature_names == list(FEATURES)
    assert booster.num_boosted_rounds() == QUICK.num_round


def test_a_model_says_where_it_comes_from_and_how_good_it_is(built: BuildResult) -> None:
    with tarfile.open(built.archives["CA"].path) as tar:
        content = tar.extractfile(MODEL_FILE)
        assert content is not None
        attributes = {name: value or "" for name, value in load(content.read()).attributes().items()}
    california = next(result for result in built.report.states if result.state == "CA")
    assert (attributes["workload"], attributes["state"]) == ("tabular", "CA")
    assert TabularRecipe.model_validate_json(attributes["recipe"]) == QUICK
    assert json.loads(attributes["rows"])["train"] == california.train_rows
    assert json.loads(attributes["accuracy"])["test"]["error"] == california.test.error
    assert "fallback" not in attributes


def test_the_base_score_is_the_one_that_older_xgboost_reads_rightly(built: BuildResult) -> None:
    with tarfile.open(built.archives["TX"].path) as tar:
        content = tar.extractfile(MODEL_FILE)
        assert content is not None
        config = json.loads(load(content.read()).save_config())
    assert config["learner"]["learner_model_param"]["base_score"] in ("[5E-1]", "5E-1")


def test_equal_models_give_equal_archives_whatever_the_folder(tmp_path: Path) -> None:
    one, two = pack_model(b"model", "CA", tmp_path / "a"), pack_model(b"model", "CA", tmp_path / "b/c")
    assert one.path.name == archive_name("CA") == two.path.name
    assert (one.sha256, one.size) == (two.sha256, two.size)
    assert pack_model(b"other", "CA", tmp_path / "a").sha256 != one.sha256


def test_two_builds_of_a_recipe_give_the_same_bytes(
    tmp_path: Path, built: BuildResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "available_cores", lambda: 1)
    again = build(QUICK, tmp_path / "steps", tmp_path / "out", lambda _line: None)
    assert again.summary() == built.summary()
    assert {name: path.read_bytes() for name, path in again.files().items()} == {
        name: path.read_bytes() for name, path in built.files().items()
    }


def test_a_repeated_build_takes_its_steps_from_the_cache_and_drops_stale_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "available_cores", lambda: 1)
    lines: list[str] = []
    first = build(QUICK, tmp_path / "steps", tmp_path / "out", lines.append)
    stale = tmp_path / "out/models/churn-xgb-XX.tar.gz"
    stale.write_bytes(b"")
    lines.clear()
    assert build(QUICK, tmp_path / "steps", tmp_path / "out", lines.append) == first
    assert "train: unchanged, taken from the cache" in lines
    assert not stale.exists()
    lines.clear()
    build(QUICK.model_copy(update={"max_depth": 2}), tmp_path / "steps", tmp_path / "out", lines.append)
    assert {"data: unchanged, taken from the cache", "train: running"} <= set(lines)


def test_the_summary_has_all_that_a_deployment_and_a_reader_need(built: BuildResult) -> None:
    summary = json.loads(json.dumps(built.summary()))
    assert summary["workload"] == "tabular"
    assert summary["source"] == "2040 generated customers, seed 0"
    assert summary["data"]["rows"] == 2040
    assert TabularRecipe.model_validate(summary["recipe"]) == QUICK
    assert summary["versions"]["xgboost"] == xgb.__version__
    assert summary["features"] == list(FEATURES)
    assert [row["state"] for row in summary["states"]] == list(STATES)
    assert set(summary["states"][0]) == {"state", "train_rows", "validation", "test"}
    assert set(summary["accuracy"]["test"]) == {"rows", "auc", "error"}
    assert summary["fallbacks"] == []
    assert sorted(summary["artifacts"]) == sorted(map(archive_name, STATES))
    for state, artifact in built.archives.items():
        entry = summary["artifacts"][archive_name(state)]
        assert entry == {"state": state, "bytes": artifact.path.stat().st_size, "sha256": artifact.sha256}


def test_every_request_is_answered_by_its_states_archive_as_the_last_column_says(built: BuildResult) -> None:
    with built.requests.open() as file:
        header, *lines = csv.reader(file)
    assert header == ["state", *FEATURES, "prediction"]
    assert len(lines) == built.report.test.rows
    for state in ("AK", "DC", "WY"):
        with tarfile.open(built.archives[state].path) as tar:
            content = tar.extractfile(MODEL_FILE)
            assert content is not None
            model = content.read()
        of_state = np.array([line[1:] for line in lines if line[0] == state], dtype=np.float32)
        assert (predict(model, of_state[:, :-1]) == of_state[:, -1]).all()


@settings(max_examples=100)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_in_the_requests_reads_back_as_the_same_float(number: float) -> None:
    table = Table(np.full((1, len(FEATURES)), number, np.float32), np.zeros(1, np.int8), np.array(["CA"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        write_requests(table, np.zeros(1, np.intp), np.zeros(1, np.float32), path)
        cells = path.read_text().splitlines()[1].split(",")
    assert (cells[0], np.float32(cells[1]), cells[-1]) == ("CA", np.float32(number), "0")


def test_the_chart_is_a_picture_with_a_bar_per_state(built: BuildResult) -> None:
    assert built.chart.read_bytes().startswith(b"\x89PNG")
    assert built.chart.stat().st_size > 20_000


def test_uploading_names_the_object_that_cannot_be_written(s3: FakeS3, built: BuildResult) -> None:
    s3.refused = "models/churn-xgb-MT.tar.gz"
    with pytest.raises(BuildError, match=r"s3://bucket/a/b/models/churn-xgb-MT\.tar\.gz cannot be written: .*s3:PutOb"):
        upload("bucket", "/a/b/", built.files())


def run(tmp_path: Path, recipe: str, *options: str) -> Result:
    app = typer.Typer()
    app.command()(command.main)
    folders = ["--cache", str(tmp_path / "steps"), "--output", str(tmp_path / "out")]
    return CliRunner().invoke(app, [*folders, *options], env={"RECIPE": recipe})


def test_the_command_uploads_everything_and_the_summary_last(
    tmp_path: Path, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "available_cores", lambda: 1)
    result = run(tmp_path, QUICK.model_dump_json(), "--bucket", "bucket", "--prefix", "tabular/1")
    assert result.exit_code == 0, result.output
    models = {f"bucket/tabular/1/models/{archive_name(state)}" for state in STATES}
    others = {f"bucket/tabular/1/{name}" for name in ("accuracy.png", "requests.csv", "summary.json")}
    assert set(s3.objects) == models | others
    assert list(s3.objects)[-1] == "bucket/tabular/1/summary.json"
    assert json.loads(s3.objects["bucket/tabular/1/summary.json"])["workload"] == "tabular"
    assert json.loads((tmp_path / "out/summary.json").read_text())["workload"] == "tabular"
    assert all(f" {state} " in result.output for state in (*STATES, "all"))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('{"source": {"kind": "s3", "url": "s3://bucket/none"}}', "'s3://bucket/none' cannot be read"),
        ('{"colour": "red"}', "the recipe is not valid: colour"),
        ("{", "the recipe is not valid: recipe"),
        ("@/none/recipe.json", "No such file"),
    ],
)
def test_the_command_leaves_the_reason_of_a_failure_and_no_summary(
    tmp_path: Path, s3: FakeS3, recipe: str, message: str
) -> None:
    result = run(tmp_path, recipe, "--bucket", "bucket", "--prefix", "p")
    assert result.exit_code == 1
    assert message in json.loads(s3.objects["bucket/p/failure.json"])["message"]
    assert list(s3.objects) == ["bucket/p/failure.json"]


def test_the_command_wants_bucket_and_prefix_together(tmp_path: Path) -> None:
    result = run(tmp_path, "{}", "--bucket", "bucket")
    assert result.exit_code == 1
    assert "--bucket and --prefix go together" in result.output


@pytest.mark.skipif(not REAL_TABLE.is_file(), reason="set CHURN_TABLE to the telco churn table in CSV to run this")
def test_the_real_table_is_read_whole_and_its_models_tell_who_leaves() -> None:
    table = parse(fetch(FileSource(path=str(REAL_TABLE))))
    assert len(table.labels) == 3333
    assert table.other_area_codes == 0
    report = train_states(table, TabularRecipe(), workers=1).report
    assert report.test.auc is not None
    # About 50 training rows a state, with the published parameters: 0.69 at this seed, 0.63 to 0.74 at others.
    assert report.test.auc > 0.6
    assert report.test.error is not None
    assert report.test.error < 0.2
