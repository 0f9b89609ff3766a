"""Requests for the tabular workload."""

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
    """A row of the build's test split: state, FEATURES as text, and the probability that XGBoost predicted."""

    state: str
    features: tuple[str, ...]
    prediction: float


def read_customers(text: str) -> list[Customer]:
    """Read the rows of a build's `requests.csv`."""
    return [
        Customer(row["state"], tuple(row[name] for name in FEATURES), float(row["prediction"]))
        for row in csv.DictReader(io.StringIO(text))
    ]


def by_state(customers: Sequence[Customer]) -> dict[str, list[Customer]]:
    """Group customers by state; a state without a row in the test split is absent."""
    groups: dict[str, list[Customer]] = {}
    for customer in customers:
        groups.setdefault(customer.state, []).append(customer)
    return groups


def request(archive: str, customers: Sequence[Customer]) -> Request:
    """Return one request with a row per customer, for the model in that archive."""
    rows = "\n".join(",".join(customer.features) for customer in customers)
    return Request(body=rows.encode(), content_type=CSV, target_model=archive)


def requests(
    customers: Sequence[Customer], *, count: int = 20_000, zipf_exponent: float = 0.0, seed: int = 0
) -> list[Request]:
    """Return one-row requests; a state's probability is proportional to rank**-zipf_exponent, and 0 is uniform."""
    rows = by_state(customers)
    random_numbers = random.Random(seed)
    states = sorted(rows)
    random_numbers.shuffle(states)
    weights = [(rank + 1) ** -zipf_exponent for rank in range(len(states))]
    return [
        request(archive_name(state), [random_numbers.choice(rows[state])])
        for state in random_numbers.choices(states, weights, k=count)
    ]
