"""Train, run and annotate one booster; in its own module, so worker processes import little."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from containers.tabular.features import FEATURES
from model_build.tabular.recipe import TabularRecipe

BASE_SCORE = 0.5
"""The prediction before the first tree. XGBoost 3.1 changed the way it is written, and XGBoost 3.0.5 then always reads
0.5. With any other value, a built-in container of that version would silently give wrong predictions.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """The training data of one booster, rows of FEATURES and their labels, and the recipe's parameters."""

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    recipe: TabularRecipe


def fit(job: Job) -> bytes:
    """Return the trained booster in UBJSON; equal jobs give equal bytes."""
    parameters = {
        "objective": "binary:logistic",
        "max_depth": job.recipe.max_depth,
        "eta": job.recipe.eta,
        "min_child_weight": job.recipe.min_child_weight,
        "base_score": BASE_SCORE,
        "seed": job.recipe.seed,
        # Boosters train in parallel processes. More threads would also change the order in which gradients add up.
        "nthread": 1,
    }
    rows = xgb.DMatrix(job.features, label=job.labels, feature_names=list(FEATURES), nthread=1)
    return bytes(xgb.train(parameters, rows, num_boost_round=job.recipe.num_round).save_raw("ubj"))


def predict(model: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of churn for each row of FEATURES."""
    if not len(features):
        return np.zeros(0, dtype=np.float32)
    rows = xgb.DMatrix(features, feature_names=list(FEATURES), nthread=1)
    probabilities: NDArray[np.float32] = load(model).predict(rows)
    return probabilities


def stamp(model: bytes, attributes: Mapping[str, str]) -> bytes:
    """Return the same booster with attributes that are stored in its file."""
    booster = load(model)
    booster.set_attr(**attributes)
    return bytes(booster.save_raw("ubj"))


def load(model: bytes) -> xgb.Booster:
    """Load a booster from UBJSON, for one thread."""
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(model))
    return booster
