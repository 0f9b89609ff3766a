"""The requests of the tabular workload."""

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

from containers.tabular.features import FEATURES, archive_name
from load_tests.closed_loop import Request

CSV = "text/csv"


@dataclass(frozen=True, slots=True)
class Customer:
    """A row of the build's test share: its state, its FEATURES as text, and the probability that XGBoost gave."""

    state: str
    features: tuple[str, ...]
    prediction: float


def read_customers(text: str) -> list[Customer]:
    """The rows of a build's `requests.csv`."""
    return [
        Customer(row["state"], tuple(row[name] for name in FEATURES), float(row["prediction"]))
        for row in csv.DictReader(io.StringIO(text))
    ]


def by_state(customers: Sequence[Customer]) -> dict[str, list[Customer]]:
    """Every state's customers; a state without a row in the test share is missing."""
    found: dict[str, list[Customer]] = {}
    for customer in customers:
        found.setdefault(customer.state, []).append(customer)
    return found


def request(archive: str, customers: Sequence[Customer]) -> Request:
    """One request with a row per customer, for the model of that archive."""
    rows = "\n".join(",".join(customer.features) for customer in customers)
    return Request(body=rows.encode(), content_type=CSV, target_model=archive)


def requests(
    customers: Sequence[Customer], *, count: int = 20_000, zipf_exponent: float = 0.0, seed: int = 0
) -> list[Request]:
    """One-row requests, each for a state drawn by rank**-zipf_exponent; 0 draws every state alike."""
    rows = by_state(customers)
    random_numbers = random.Random(seed)
    states = sorted(rows)
    random_numbers.shuffle(states)
    weights = [(rank + 1) ** -zipf_exponent for rank in range(len(states))]
    return [
        request(archive_name(state), [random_numbers.choice(rows[state])])
        for state in random_numbers.choices(states, weights, k=count)
    ]
