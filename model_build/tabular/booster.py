"""One booster: trained, asked and stamped. Apart from the rest, so that a worker process imports little."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from containers.tabular.features import FEATURES
from model_build.tabular.recipe import TabularRecipe

BASE_SCORE = 0.5
"""The answer before the first tree. XGBoost 3.1 changed how it is written, and XGBoost 3.0.5 then reads 0.5
whatever was written: with any other value a built-in container of that version answers wrongly, and silently.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """The rows of FEATURES and the labels that one booster is trained on, and the recipe's parameters."""

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    recipe: TabularRecipe


def fit(job: Job) -> bytes:
    """The trained booster in UBJSON; equal jobs give equal bytes."""
    parameters = {
        "objective": "binary:logistic",
        "max_depth": job.recipe.max_depth,
        "eta": job.recipe.eta,
        "min_child_weight": job.recipe.min_child_weight,
        "base_score": BASE_SCORE,
        "seed": job.recipe.seed,
        # Boosters are trained side by side. More threads would also add up gradients in another order.
        "nthread": 1,
    }
    rows = xgb.DMatrix(job.features, label=job.labels, feature_names=list(FEATURES), nthread=1)
    return bytes(xgb.train(parameters, rows, num_boost_round=job.recipe.num_round).save_raw("ubj"))


def predict(model: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of leaving for each row of FEATURES."""
    if not len(features):
        return np.zeros(0, dtype=np.float32)
    rows = xgb.DMatrix(features, feature_names=list(FEATURES), nthread=1)
    probabilities: NDArray[np.float32] = load(model).predict(rows)
    return probabilities


def stamp(model: bytes, attributes: Mapping[str, str]) -> bytes:
    """The same booster with attributes that travel in its file."""
    booster = load(model)
    booster.set_attr(**attributes)
    return bytes(booster.save_raw("ubj"))


def load(model: bytes) -> xgb.Booster:
    """A booster from UBJSON, on one thread."""
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(model))
    return booster
