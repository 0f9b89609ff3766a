"""Split a table, train one booster per state, and score each on its state's held-out rows."""

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from model_build.errors import BuildError
from model_build.tabular.booster import Job, fit, predict
from model_build.tabular.data import Table
from model_build.tabular.recipe import TabularRecipe
from model_build.tabular.schema import CHURN, STATES

Indices = NDArray[np.intp]

THRESHOLD = 0.5
"""Predictions above this value count as churn; XGBoost's own metric `error` uses the same threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of a table, in ascending order; every row is in exactly one part."""

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True, slots=True)
class Score:
    """The accuracy of predictions.

    rows: number of rows.
    auc: area under the ROC curve; None unless the rows have both classes.
    error: fraction of wrong predictions at THRESHOLD; None without rows.
    """

    rows: int
    auc: float | None
    error: float | None


@dataclass(frozen=True, slots=True)
class StateResult:
    """The result for a state's model.

    train_rows: number of the state's training rows.
    validation, test: scores on the state's held-out rows.
    """

    state: str
    train_rows: int
    validation: Score
    test: Score


@dataclass(frozen=True, slots=True)
class Fallback:
    """A state whose model is trained on the training rows of all states, and the reason."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all states in alphabetical order, the scores over their combined rows, and the fallbacks."""

    states: tuple[StateResult, ...]
    validation: Score
    test: Score
    fallbacks: tuple[Fallback, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A booster in UBJSON per state, their report, and the predictions for the split's test rows."""

    models: dict[str, bytes]
    report: Report
    split: Split
    test_predictions: NDArray[np.float32]


def split_rows(table: Table, recipe: TabularRecipe) -> Split:
    """Split off the test rows stratified by state, then the validation rows stratified by churn.

    The row of a state with only one is used for training. Raises BuildError if there are too few rows for the shares.
    """
    rows = np.arange(len(table.labels), dtype=np.intp)
    _, position, counts = np.unique(table.states, return_inverse=True, return_counts=True)
    alone = counts[position] == 1
    rest, test = _stratified(rows[~alone], table.states[~alone], "test_share", recipe.test_share, recipe.seed, "states")
    rest = np.concatenate([rest, rows[alone]])
    _, counts = np.unique(table.labels[rest], return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise BuildError(
            f"column {CHURN.name!r}: {len(rest)} rows are left for training after the test rows, and fewer than 2 of "
            "them are of one class; provide a table with more customers who left and who stayed"
        )
    train, validation = _stratified(
        rest, table.labels[rest], "validation_share", recipe.validation_share, recipe.seed, "classes"
    )
    return Split(np.sort(train), np.sort(validation), np.sort(test))


def train_states(table: Table, recipe: TabularRecipe, workers: int) -> Training:
    """Train a booster for each of STATES in `workers` processes; their number does not change the result.

    A state without training rows, or with rows of only one class, gets a model trained on the training rows of all
    states. The report lists it as a fallback. Raises BuildError as `split_rows` does, and when a training process dies.
    """
    split = split_rows(table, recipe)
    own, fallbacks = _own_rows(table, split)
    jobs = [Job(table.features[rows], table.labels[rows], recipe) for rows in own.values()]
    if fallbacks:
        jobs.append(Job(table.features[split.train], table.labels[split.train], recipe))
    boosters = list(tqdm(_fit_all(jobs, workers), total=len(jobs), desc="train", unit="model"))
    models = dict(zip(own, boosters, strict=False)) | {fallback.state: boosters[-1] for fallback in fallbacks}
    validation, test = _predictions(table, models, split.validation), _predictions(table, models, split.test)
    report = Report(
        states=tuple(
            StateResult(
                state,
                int((table.states[split.train] == state).sum()),
                _score(table, split.validation, validation, state),
                _score(table, split.test, test, state),
            )
            for state in STATES
        ),
        validation=_score(table, split.validation, validation),
        test=_score(table, split.test, test),
        fallbacks=fallbacks,
    )
    return Training({state: models[state] for state in STATES}, report, split, test)


def _stratified(
    rows: Indices, groups: NDArray[np.generic], field: str, share: float, seed: int, unit: str
) -> tuple[Indices, Indices]:
    kinds, taken = len(np.unique(groups)), math.ceil(share * len(rows))
    if min(taken, len(rows) - taken) < kinds:
        raise BuildError(
            f"{field} is {share}: of {len(rows)} rows it takes {taken}, and each side of the split needs at least one "
            f"row for each of {kinds} {unit}; provide a larger table or set another {field}"
        )
    rest, chosen = train_test_split(rows, test_size=share, random_state=seed, stratify=groups)
    return rest, chosen


def _own_rows(table: Table, split: Split) -> tuple[dict[str, Indices], tuple[Fallback, ...]]:
    own: dict[str, Indices] = {}
    fallbacks: list[Fallback] = []
    for state in STATES:
        rows = split.train[table.states[split.train] == state]
        left = int(table.labels[rows].sum())
        if not len(rows):
            fallbacks.append(Fallback(state, "it has no training rows"))
        elif left in (0, len(rows)):
            outcome = "left" if left else "stayed"
            fallbacks.append(Fallback(state, f"its training rows ({len(rows)}) are all of customers who {outcome}"))
        else:
            own[state] = rows
    return own, tuple(fallbacks)


def _fit_all(jobs: Sequence[Job], workers: int) -> Iterator[bytes]:
    if workers == 1:
        yield from map(fit, jobs)
        return
    # A forked child can hang in the OpenMP runtime that its parent has already started.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(fit, jobs)
        except BrokenProcessPool as error:
            raise BuildError(
                "a training process died, most often for lack of memory; build with more memory or a smaller table"
            ) from error


def _predictions(table: Table, models: dict[str, bytes], rows: Indices) -> NDArray[np.float32]:
    predictions = np.zeros(len(rows), dtype=np.float32)
    states = table.states[rows]
    for state, model in models.items():
        of_state = states == state
        predictions[of_state] = predict(model, table.features[rows[of_state]])
    return predictions


def _score(table: Table, rows: Indices, predictions: NDArray[np.float32], state: str | None = None) -> Score:
    if state is not None:
        of_state = table.states[rows] == state
        rows, predictions = rows[of_state], predictions[of_state]
    labels = table.labels[rows]
    return Score(
        rows=len(rows),
        auc=float(roc_auc_score(labels, predictions)) if len(np.unique(labels)) == 2 else None,
        error=float(((predictions > THRESHOLD) != (labels == 1)).mean()) if len(rows) else None,
    )
