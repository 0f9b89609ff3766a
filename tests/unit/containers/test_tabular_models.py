"""Models that users train themselves: other orders of features, early stopping, archives made on other systems."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from containers.serving.app import Invocation
from containers.serving.multi_model import ModelLoadError
from containers.tabular.features import FEATURES, MODEL_FILE
from containers.tabular.forest import ModelError
from containers.tabular.handler import load_model
from containers.tabular.trees import read_model
from model_build.tabular.data import Table
from tests.unit.containers.tabular_archives import Document, archive


def answers(folder: Path, content_type: str, body: bytes) -> list[float]:
    model = load_model(folder)
    given = model.invoke(Invocation(body, content_type, "application/json")).body
    return [row["score"] for row in json.loads(given)["predictions"]]


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_a_model_trained_on_the_same_features_in_another_order_reads_each_by_its_name(
    tmp_path: Path, table: Table, form: str
) -> None:
    order = list(reversed(range(len(FEATURES))))
    names = [FEATURES[index] for index in order]
    data = xgb.DMatrix(table.features[:, order], label=table.labels, feature_names=names, nthread=1)
    booster = xgb.train({"nthread": 1, "objective": "binary:logistic", "max_depth": 4}, data, 8)
    archive(tmp_path, **{MODEL_FILE: bytes(booster.save_raw(form))})
    rows = table.features[:50]
    wanted = booster.predict(xgb.DMatrix(rows[:, order], feature_names=names, nthread=1)).tolist()
    assert len(set(wanted)) > 10
    named = {"instances": [dict(zip(FEATURES, map(float, row), strict=True)) for row in rows]}
    assert answers(tmp_path, "application/json", json.dumps(named).encode()) == pytest.approx(wanted, abs=1e-6)
    csv = "\n".join(",".join(map(str, row.tolist())) for row in rows)
    assert answers(tmp_path, "text/csv", csv.encode()) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tenure", *FEATURES[1:]], "reads 'tenure', which is not a column here"),
        ([*FEATURES[:7]], "does not read 'night_calls'"),
    ],
)
def test_a_model_of_other_names_is_refused_with_the_name(
    tmp_path: Path, table: Table, names: list[str], message: str
) -> None:
    data = xgb.DMatrix(table.features[:, : len(names)], label=table.labels, feature_names=names, nthread=1)
    booster = xgb.train({"nthread": 1, "objective": "binary:logistic"}, data, 1)
    archive(tmp_path, **{MODEL_FILE: bytes(booster.save_raw("ubj"))})
    with pytest.raises(ModelLoadError, match=message):
        load_model(tmp_path)


def test_a_byte_order_mark_before_rows_is_ignored(tmp_path: Path, model: bytes, table: Table) -> None:
    archive(tmp_path, **{MODEL_FILE: model})
    csv = ",".join(map(str, table.features[0].tolist())).encode()
    named = json.dumps({"instances": [dict(zip(FEATURES, map(float, table.features[0]), strict=True))]}).encode()
    for content_type, body in (("text/csv", csv), ("application/json", named)):
        assert answers(tmp_path, content_type, b"\xef\xbb\xbf" + body) == answers(tmp_path, content_type, body)


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_model_that_stopped_early_answers_with_its_best_round_as_predict_proba_does(
    tmp_path: Path, table: Table, parallel: int
) -> None:
    source = np.random.default_rng(0)
    noise = source.integers(0, 2, len(table.labels))
    train, test = np.arange(0, len(noise), 2), np.arange(1, len(noise), 2)
    classifier = xgb.XGBClassifier(
        n_estimators=60, early_stopping_rounds=20, learning_rate=0.9, num_parallel_tree=parallel, n_jobs=1
    )
    classifier.fit(table.features[train], noise[train], eval_set=[(table.features[test], noise[test])], verbose=False)
    booster = classifier.get_booster()
    assert classifier.best_iteration < booster.num_boosted_rounds() - 1
    archive(tmp_path, **{MODEL_FILE: bytes(booster.save_raw("ubj"))})
    rows = table.features[:50]
    csv = "\n".join(",".join(map(str, row.tolist())) for row in rows)
    wanted = classifier.predict_proba(rows)[:, 1]
    assert answers(tmp_path, "text/csv", csv.encode()) == pytest.approx(wanted.tolist(), abs=1e-6)
    assert np.abs(wanted - booster.predict(xgb.DMatrix(rows, nthread=1))).max() > 0.01


@pytest.mark.parametrize("best", ["-1", "1e3", "500", "two"])
def test_a_best_round_that_the_model_does_not_have_is_refused(document: Document, best: str) -> None:
    document = copy.deepcopy(document)
    document["learner"]["attributes"] = {"best_iteration": best}
    with pytest.raises(ModelError, match="best_iteration is"):
        read_model(json.dumps(document).encode())


@pytest.mark.parametrize("hidden", ["._xgboost-model", ".DS_Store", "__MACOSX/._xgboost-model", ".git/config"])
def test_what_macos_and_editors_hide_in_an_archive_is_ignored(tmp_path: Path, model: bytes, hidden: str) -> None:
    archive(tmp_path, **{MODEL_FILE: model})
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_bytes(b"Mac OS X")
    assert load_model(tmp_path).size_bytes > 0


def test_advice_for_another_format_is_one_that_works(tmp_path: Path, table: Table) -> None:
    archive(tmp_path, **{MODEL_FILE: b"binf\x00\x00"})
    with pytest.raises(ModelLoadError, match="save_model") as raised:
        load_model(tmp_path)
    names = re.findall(r'save_model\("([^"]+)"\)', str(raised.value))
    data = xgb.DMatrix(table.features, label=table.labels, nthread=1)
    booster = xgb.train({"nthread": 1, "objective": "binary:logistic"}, data, 1)
    assert len(names) == 1
    (tmp_path / MODEL_FILE).unlink()
    booster.save_model(tmp_path / names[0])
    assert load_model(tmp_path).size_bytes > 0
