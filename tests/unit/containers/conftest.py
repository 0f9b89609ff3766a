"""A small tabular model, in each of its forms, for the tests of the tabular container."""

import json

import pytest

from model_build.tabular.booster import Job, fit, load
from model_build.tabular.data import Table, fetch, parse
from model_build.tabular.recipe import GeneratedSource, TabularRecipe
from tests.unit.containers.tabular_archives import Document


@pytest.fixture(scope="module")
def table() -> Table:
    return parse(fetch(GeneratedSource(customers=1020)))


@pytest.fixture(scope="module")
def model(table: Table) -> bytes:
    """A small model: damage at any of its bytes is tried."""
    return fit(Job(table.features, table.labels, TabularRecipe(num_round=1, max_depth=2)))


@pytest.fixture(scope="module")
def document(model: bytes) -> Document:
    """The same model as JSON."""
    read: Document = json.loads(bytes(load(model).save_raw("json")))
    return read
