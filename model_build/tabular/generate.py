"""Generate seeded customers with the public sample's columns, whose reasons to leave differ between states."""

import csv
import io

import numpy as np
from numpy.typing import NDArray

from containers.tabular.features import AREA_CODES
from model_build.tabular.recipe import MIN_CUSTOMERS_PER_STATE, GeneratedSource
from model_build.tabular.schema import COLUMNS, STATES

CHURN_SHARE = (0.10, 0.18)
"""Range of the fraction of a state's customers who leave."""
_PRICES = {"Day": 0.17, "Eve": 0.085, "Night": 0.045, "Intl": 0.27}
"""Charge per minute; charges carry no additional information."""
_NOISE = 0.8
"""Scale of the logistic noise on the score, whose weights are about 2 to 4, so no model can be perfect."""

Numbers = NDArray[np.float64]


def generate(source: GeneratedSource) -> bytes:
    """Return the customers as CSV, states in alphabetical order; equal sources give equal bytes.

    Every state has at least 20 customers. At least two of them leave and at least two stay.
    """
    rng = np.random.default_rng(source.seed)
    spare = source.customers - MIN_CUSTOMERS_PER_STATE * len(STATES)
    sizes = MIN_CUSTOMERS_PER_STATE + rng.multinomial(spare, rng.dirichlet(np.full(len(STATES), 30.0)))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([column.name for column in COLUMNS])
    for state, size in zip(STATES, sizes, strict=True):
        table.writerows(_customers(rng, state, int(size)))
    return text.getvalue().encode()


def _customers(rng: np.random.Generator, state: str, size: int) -> list[list[str]]:
    intl_plan = rng.random(size) < 0.15
    vmail_plan = rng.random(size) < 0.28
    mins = {
        "Day": _minutes(rng, 180, 54, size),
        "Eve": _minutes(rng, 200, 50, size),
        "Night": _minutes(rng, 200, 50, size),
        "Intl": _minutes(rng, 10, 2.8, size),
    }
    calls = {name: rng.poisson(100, size) for name in ("Day", "Eve", "Night")} | {"Intl": 1 + rng.poisson(3.5, size)}
    service = rng.poisson(1.5, size)
    score = _score(
        rng,
        day_mins=(mins["Day"] - 180) / 54,
        eve_mins=(mins["Eve"] - 200) / 50,
        service_calls=(service.astype(np.float64) - 1.5) / 1.2,
        intl_plan=intl_plan.astype(np.float64),
    )
    churn = _churn(rng, score)
    cells = {
        "State": np.full(size, state),
        "Account Length": np.clip(rng.normal(100, 40, size), 1, None).astype(np.int64),
        "Area Code": rng.choice(AREA_CODES, size, p=(0.25, 0.5, 0.25)),
        # Phone numbers with 555 are fictional.
        "Phone": np.array([f"555-{number:04d}" for number in rng.integers(0, 10_000, size)]),
        "Int'l Plan": np.where(intl_plan, "yes", "no"),
        "VMail Plan": np.where(vmail_plan, "yes", "no"),
        "VMail Message": np.where(vmail_plan, rng.poisson(29, size), 0),
        "CustServ Calls": service,
        "Churn?": np.where(churn, "True.", "False."),
    }
    for name, price in _PRICES.items():
        cells[f"{name} Mins"] = np.array([f"{value:.1f}" for value in mins[name]])
        cells[f"{name} Calls"] = calls[name]
        cells[f"{name} Charge"] = np.array([f"{value * price:.2f}" for value in mins[name]])
    return [[str(cells[column.name][row]) for column in COLUMNS] for row in range(size)]


def _minutes(rng: np.random.Generator, mean: float, deviation: float, size: int) -> Numbers:
    # Rounded here, so the score uses the values in the table.
    minutes: Numbers = np.maximum(rng.normal(mean, deviation, size), 0).round(1)
    return minutes


def _score(
    rng: np.random.Generator, *, day_mins: Numbers, eve_mins: Numbers, service_calls: Numbers, intl_plan: Numbers
) -> Numbers:
    # Heavy callers leave in one state and stay in another, so one model for all states cannot predict both.
    day, eve, service, intl = rng.choice((-1, 1), 4) * rng.uniform((2.5, 0, 1, 1), (4, 1, 2, 3))
    score: Numbers = day * day_mins + eve * eve_mins + service * service_calls + intl * intl_plan
    return score


def _churn(rng: np.random.Generator, score: Numbers) -> NDArray[np.bool_]:
    size = len(score)
    leaving = min(max(round(rng.uniform(*CHURN_SHARE) * size), 2), size - 2)
    noisy = score + rng.logistic(0, _NOISE, size)
    churn = np.zeros(size, dtype=np.bool_)
    churn[np.argsort(noisy, kind="stable")[-leaving:]] = True
    return churn
