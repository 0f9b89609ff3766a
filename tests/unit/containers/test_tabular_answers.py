"""The container's answers are XGBoost's, for every state's model and whatever XGBoost can be made to save."""

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from containers.serving.app import Invocation
from containers.tabular.features import FEATURES
from containers.tabular.forest import ModelError
from containers.tabular.handler import ChurnModel
from containers.tabular.trees import TreeEnsemble, read_model
from model_build.tabular.booster import Job, fit
from model_build.tabular.data import Table, fetch, parse
from model_build.tabular.recipe import GeneratedSource, TabularRecipe
from model_build.tabular.schema import STATES
from model_build.tabular.train import train_states
from tests.allocations import peak_bytes

Rows = NDArray[np.float32]

RECIPE = TabularRecipe(source=GeneratedSource(customers=4080), min_child_weight=0.1)
TOLERANCE = 1e-6
LARGEST = float(np.finfo(np.float32).max)
EXTREMES = (0.0, -0.0, LARGEST, -LARGEST, float(np.finfo(np.float32).tiny), 1e-45, 2.0**24 + 2, -1.0)


@pytest.fixture(scope="module")
def table() -> Table:
    return parse(fetch(RECIPE.source))


@pytest.fixture(scope="module")
def boosters(table: Table) -> Mapping[str, bytes]:
    """A model per state, as model_build trains them."""
    return train_states(table, RECIPE, workers=1).models


@pytest.fixture(scope="module")
def ensembles(boosters: Mapping[str, bytes]) -> Mapping[str, TreeEnsemble]:
    return {state: read_model(booster) for state, booster in boosters.items()}


@pytest.fixture(scope="module")
def references(boosters: Mapping[str, bytes]) -> Mapping[str, xgb.Booster]:
    return {state: loaded(booster) for state, booster in boosters.items()}


@pytest.fixture(scope="module")
def splits(boosters: Mapping[str, bytes]) -> Mapping[str, list[tuple[int, float]]]:
    """Every (feature, threshold) that a state's model compares."""
    return {state: compared(booster) for state, booster in boosters.items()}


def loaded(model: bytes) -> xgb.Booster:
    return xgb.Booster({"nthread": 1}, model_file=bytearray(model))


def expected(booster: xgb.Booster, rows: Rows) -> Rows:
    answers: Rows = booster.inplace_predict(rows, validate_features=False)
    return answers


def compared(model: bytes) -> list[tuple[int, float]]:
    trees = json.loads(bytes(loaded(model).save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    return [
        (feature, condition)
        for tree in trees
        for feature, condition, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        )
        if left != -1
    ]


def in_blocks(ensemble: TreeEnsemble, rows: Rows, size: int) -> Rows:
    return np.concatenate([ensemble.predict(rows[start : start + size]) for start in range(0, len(rows), size)])


def test_there_is_a_model_per_state(boosters: Mapping[str, bytes]) -> None:
    assert sorted(boosters) == sorted(STATES)
    assert len(set(boosters.values())) == 51


@pytest.mark.parametrize("state", STATES)
def test_answers_to_the_states_customers_equal_xgboosts(
    state: str, table: Table, ensembles: Mapping[str, TreeEnsemble], references: Mapping[str, xgb.Booster]
) -> None:
    wanted = expected(references[state], table.features)
    assert len(np.unique(wanted)) > 10
    np.testing.assert_allclose(ensembles[state].predict(table.features), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("state", STATES)
def test_answers_on_a_threshold_and_a_hair_beside_it_equal_xgboosts(
    state: str,
    table: Table,
    splits: Mapping[str, list[tuple[int, float]]],
    ensembles: Mapping[str, TreeEnsemble],
    references: Mapping[str, xgb.Booster],
) -> None:
    rows = np.repeat(np.resize(table.features, (len(splits[state]), len(FEATURES))), 3, axis=0)
    for index, (feature, threshold) in enumerate(splits[state]):
        on = np.float32(threshold)
        rows[3 * index : 3 * index + 3, feature] = (np.nextafter(on, -np.inf), on, np.nextafter(on, np.inf))
    rows = rows.astype(np.float32)
    wanted = expected(references[state], rows)
    assert (wanted[0::3] != wanted[1::3]).any()
    np.testing.assert_allclose(ensembles[state].predict(rows), wanted, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(in_blocks(ensembles[state], rows, 12), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("state", STATES)
def test_answers_to_rows_with_missing_and_extreme_values_equal_xgboosts(
    state: str, table: Table, ensembles: Mapping[str, TreeEnsemble], references: Mapping[str, xgb.Booster]
) -> None:
    rng = np.random.default_rng(STATES.index(state))
    rows = np.resize(table.features, (200, len(FEATURES)))
    odd = rng.choice(np.array([np.nan, *EXTREMES], np.float32), rows.shape)
    rows = np.where(rng.random(rows.shape) < 0.4, odd, rows).astype(np.float32)
    wanted = expected(references[state], rows)
    np.testing.assert_allclose(ensembles[state].predict(rows), wanted, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(in_blocks(ensembles[state], rows, 7), wanted, rtol=0, atol=TOLERANCE)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=st.data(), state=st.sampled_from(STATES), count=st.integers(1, 16))
def test_answers_to_any_rows_equal_xgboosts(
    data: st.DataObject,
    state: str,
    count: int,
    splits: Mapping[str, list[tuple[int, float]]],
    ensembles: Mapping[str, TreeEnsemble],
    references: Mapping[str, xgb.Booster],
) -> None:
    values = st.one_of(
        st.none(),
        st.sampled_from([threshold for _, threshold in splits[state]]),
        st.sampled_from(EXTREMES),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
    row = st.lists(values, min_size=len(FEATURES), max_size=len(FEATURES))
    distinct = data.draw(st.lists(row, min_size=1, max_size=3))
    given_rows = [distinct[index % len(distinct)] for index in range(count)]
    rows = np.array(given_rows, np.float64).astype(np.float32)
    wanted = expected(references[state], rows)
    model = ChurnModel(ensembles[state])
    as_csv = "\n".join(",".join("" if value is None else repr(value) for value in row) for row in given_rows)
    answer = model.invoke(Invocation(as_csv.encode(), "text/csv")).body
    np.testing.assert_allclose([float(cell) for cell in answer.split(b",")], wanted, rtol=0, atol=TOLERANCE)
    as_json = json.dumps({"instances": given_rows}).encode()
    predictions = json.loads(model.invoke(Invocation(as_json, "application/json")).body)["predictions"]
    np.testing.assert_allclose([row["score"] for row in predictions], wanted, rtol=0, atol=TOLERANCE)


def trained(table: Table, labels: NDArray[Any] | None = None, rounds: int = 5, **parameters: Any) -> xgb.Booster:
    data = xgb.DMatrix(table.features, label=table.labels if labels is None else labels, nthread=1)
    return xgb.train({"nthread": 1, "seed": 0, **parameters}, data, num_boost_round=rounds)


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "binary:logistic"},
        {"objective": "binary:logistic", "base_score": 0.03},
        {"objective": "reg:logistic", "base_score": 0.9},
        {"objective": "reg:squarederror"},
        {"objective": "reg:squarederror", "base_score": -7.25},
        {"objective": "binary:logistic", "gamma": 1e9},
        {"objective": "binary:logistic", "max_depth": 1},
        {"objective": "binary:logistic", "max_depth": 12, "min_child_weight": 0},
        {"objective": "binary:logistic", "tree_method": "exact"},
        {"objective": "binary:logistic", "tree_method": "approx"},
        {"objective": "binary:logistic", "grow_policy": "lossguide", "max_leaves": 31, "max_depth": 0},
        {"objective": "binary:logistic", "num_parallel_tree": 4, "subsample": 0.5},
        {"objective": "binary:logistic", "monotone_constraints": "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)"},
        {"objective": "binary:logistic", "eta": 100, "min_child_weight": 0},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("form", ["ubj", "json"])
def test_models_trained_in_other_ways_are_answered_as_xgboost_answers(
    table: Table, parameters: dict[str, Any], form: str
) -> None:
    booster = trained(table, **parameters)
    ensemble = read_model(bytes(booster.save_raw(form)))
    for rows in (table.features[:5], table.features[:200]):
        np.testing.assert_allclose(ensemble.predict(rows), expected(booster, rows), rtol=1e-6, atol=TOLERANCE)


def test_a_tree_that_was_pruned_after_growing_is_answered_as_xgboost_answers(table: Table) -> None:
    data = xgb.DMatrix(table.features, label=table.labels, nthread=1)
    grown = trained(table, objective="binary:logistic", max_depth=8, min_child_weight=0)
    pruned = xgb.train(
        {"process_type": "update", "updater": "prune", "gamma": 4, "nthread": 1, "verbosity": 0},
        data,
        5,
        xgb_model=grown,
    )
    assert pruned.trees_to_dataframe().shape[0] < grown.trees_to_dataframe().shape[0]
    answers = read_model(bytes(pruned.save_raw("ubj"))).predict(table.features)
    np.testing.assert_allclose(answers, expected(pruned, table.features), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"booster": "gblinear", "updater": "coord_descent"}, "the booster is 'gblinear': only gbtree is supported"),
        ({"booster": "dart"}, "the booster is 'dart': only gbtree is supported"),
        ({"objective": "count:poisson"}, "the objective is 'count:poisson': only"),
        ({"objective": "rank:pairwise"}, "the objective is 'rank:pairwise': only"),
        ({"objective": "multi:softprob", "num_class": 2}, "the objective is 'multi:softprob': only"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_what_to_use_instead(
    table: Table, parameters: dict[str, Any], says: str
) -> None:
    model = bytes(trained(table, rounds=1, **parameters).save_raw("ubj"))
    with pytest.raises(ModelError, match=says) as raised:
        read_model(model)
    assert "use container: builtin" in str(raised.value)


def test_a_model_of_several_outputs_is_refused(table: Table) -> None:
    labels = np.stack([table.labels, 1 - table.labels], axis=1)
    model = bytes(trained(table, labels, rounds=1, objective="reg:squarederror").save_raw("ubj"))
    with pytest.raises(ModelError, match="several outputs: only one is supported; use container: builtin"):
        read_model(model)


def test_a_model_that_splits_on_categories_is_refused(table: Table) -> None:
    data = xgb.DMatrix(
        np.round(table.features[:, :1] % 5),
        label=table.labels,
        feature_types=["c"],
        enable_categorical=True,
        nthread=1,
    )
    booster = xgb.train({"nthread": 1, "max_cat_to_onehot": 1, "min_child_weight": 0}, data, 1)
    with pytest.raises(
        ModelError, match="tree 0 has categorical splits, which are not supported: use container: builtin"
    ):
        read_model(bytes(booster.save_raw("ubj")))


def test_a_model_without_a_tree_is_refused(table: Table) -> None:
    with pytest.raises(ModelError, match="has no trees: train at least one round"):
        read_model(bytes(trained(table, rounds=0).save_raw("ubj")))


def test_many_rows_take_memory_for_a_block_and_not_for_rows_times_trees(table: Table) -> None:
    ensemble = read_model(fit(Job(table.features, table.labels, RECIPE.model_copy(update={"num_round": 100}))))
    rows = np.resize(table.features, (20_000, len(FEATURES)))
    assert peak_bytes(lambda: ensemble.predict(rows)) < 10 * 2**20


def test_the_size_that_a_model_tells_is_about_what_it_takes(table: Table) -> None:
    model = fit(Job(table.features, table.labels, RECIPE.model_copy(update={"num_round": 100})))
    read_model(model)
    tracemalloc.start()
    try:
        ensemble = read_model(model)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= ensemble.size_bytes < 2 * taken
