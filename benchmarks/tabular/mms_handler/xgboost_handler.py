"""Serve one XGBoost model in a worker of Multi Model Server with as little overhead as possible.

SageMaker's built-in container wraps the same calls in the sagemaker-inference toolkit and imports more. It also creates
a DMatrix for every request, which takes three times as long as `inplace_predict`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

_MODEL_FILE = "xgboost-model"
_boosters: list[xgboost.Booster] = []
"""The worker's only model; it is global because MMS calls a function."""


def handle(data: Sequence[Mapping[str, Any]] | None, context: Any) -> list[str] | None:
    """Load the worker's model if there is no data, else return one CSV text per request; MMS's entry point."""
    if data is None:
        # One row is too little work for two threads, and every model has its own process.
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(Path(context.system_properties["model_dir"]) / _MODEL_FILE)
        _boosters.append(booster)
        return None
    for index in range(len(data)):
        context.set_response_content_type(index, "text/csv; charset=utf-8")
    return [_answer(_boosters[0], bytes(request["body"])) for request in data]


def _answer(booster: xgboost.Booster, body: bytes) -> str:
    rows = np.array([line.split(",") for line in body.decode().split()], np.float32)
    return ",".join(map(str, booster.inplace_predict(rows).tolist()))
