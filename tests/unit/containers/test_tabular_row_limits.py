"""How many rows a request may have, and what reading them takes: bounded by the response before anything is built."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.serving.app import Invocation
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.tabular import handler
from containers.tabular.features import FEATURES
from containers.tabular.forest import FloatArray
from containers.tabular.handler import ChurnModel
from containers.tabular.rows import CsvRows, JsonRows
from containers.tabular.trees import TreeEnsemble, read_model
from tests.allocations import peak_bytes

CSV, JSON = "text/csv", "application/json"
EMPTY_ROW = b"," * (len(FEATURES) - 1)
FULL_ROW = b",".join([b"1.5"] * len(FEATURES))
MOST_JSON, MOST_CSV = handler._MAX_ROWS[True], handler._MAX_ROWS[False]
LONGEST_SCORE = -1.1754943508222875e-38


def model_of(leaf: float, *, trees: int = 1) -> ChurnModel:
    """A regression whose every tree is one leaf, so that its scores are what the test wants."""
    one: dict[str, object] = {
        "left_children": [-1], "right_children": [-1], "split_indices": [0], "default_left": [0], "split_type": [0],
        "split_conditions": [leaf],
    }  # fmt: skip
    parameters = {"num_feature": str(len(FEATURES)), "num_class": "0", "base_score": "0"}
    document = {
        "learner": {
            "gradient_booster": {"name": "gbtree", "model": {"trees": [one] * trees}},
            "learner_model_param": parameters,
            "objective": {"name": "reg:squarederror"},
        }
    }
    return ChurnModel(read_model(json.dumps(document).encode()))


@pytest.fixture(scope="module")
def model() -> ChurnModel:
    return model_of(LONGEST_SCORE)


def instances(row: bytes, count: int) -> bytes:
    return b'{"instances":[' + b",".join([row] * count) + b"]}"


def refusal(model: ChurnModel, body: bytes, content_type: str, accept: str = "*/*") -> ServingError:
    with pytest.raises(ServingError) as refused:
        model.invoke(Invocation(body, content_type, accept))
    return refused.value


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "most"),
    [
        (instances(b"{}", MOST_JSON), JSON, JSON, MOST_JSON),
        (instances(b"{}", MOST_CSV), JSON, CSV, MOST_CSV),
        (b"\n".join([EMPTY_ROW] * MOST_JSON), CSV, JSON, MOST_JSON),
        (b"\r\n".join([EMPTY_ROW] * MOST_CSV), CSV, CSV, MOST_CSV),
    ],
    ids=["json to json", "json to csv", "csv to json", "csv to csv"],
)
def test_the_most_rows_with_the_longest_scores_fit_a_response(
    model: ChurnModel, body: bytes, content_type: str, accept: str, most: int
) -> None:
    answer = model.invoke(Invocation(body, content_type, accept)).body
    assert 0.95 * MAX_BODY_BYTES < len(answer) <= MAX_BODY_BYTES
    scores = json.loads(answer)["predictions"] if accept == JSON else answer.split(b",")
    assert len(scores) == most


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "rows", "most", "field"),
    [
        (instances(b"{}", 2_000_000), JSON, JSON, 2_000_000, MOST_JSON, "instances"),
        (instances(b"[]", 2_000_000), JSON, JSON, 2_000_000, MOST_JSON, "instances"),
        (instances(b"{}", MOST_JSON + 1), JSON, JSON, MOST_JSON + 1, MOST_JSON, "instances"),
        (b"\n".join([EMPTY_ROW] * 390_000), CSV, CSV, 390_000, MOST_CSV, None),
        (b"\n".join([EMPTY_ROW] * (MOST_JSON + 1)), CSV, JSON, MOST_JSON + 1, MOST_JSON, None),
        (b"1" + b"\n" * 6_000_000 + b"1", CSV, CSV, 6_000_001, MOST_CSV, None),
        (b"1" + b"\r" * 6_000_000 + b"1", CSV, CSV, 6_000_001, MOST_CSV, None),
        (b"1" + b"\r\n" * 3_000_000 + b"1", CSV, CSV, 3_000_001, MOST_CSV, None),
    ],
    ids=["objects", "arrays", "one more", "csv", "one more of csv", "line feeds", "returns", "both"],
)
def test_more_rows_are_a_413_that_names_both_numbers_before_any_is_read(
    model: ChurnModel, body: bytes, content_type: str, accept: str, rows: int, most: int, field: str | None
) -> None:
    errors: list[ServingError] = []
    peak = peak_bytes(lambda: errors.append(refusal(model, body, content_type, accept)))
    assert (errors[0].status, errors[0].code, errors[0].field) == (413, "too_many_rows", field)
    assert f"the request has {rows} rows" in errors[0].message
    assert f"at most {most} per request" in errors[0].message
    assert peak < 2 * len(body) + 2**20


MANY = 6 * 2**20


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (instances(b"[" + b",".join([b"1"] * 16) + b"]", 60_000), JSON),
        (instances(b'{"day_mins":1}', 100_000), JSON),
        (instances(b"[" + b",".join([b"null"] * 16) + b"]", 25_000), JSON),
        (b"\n".join([b",".join([b"1"] * 16)] * 60_000), CSV),
        (b"\n".join([FULL_ROW] * 40_000), CSV),
    ],
    ids=["short numbers", "one feature", "nulls", "csv of short numbers", "csv"],
)
def test_a_body_is_answered_within_a_small_multiple_of_its_size(
    model: ChurnModel, body: bytes, content_type: str
) -> None:
    peak = peak_bytes(lambda: model.invoke(Invocation(body, content_type)))
    assert peak < 12 * len(body)


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b'{"instances":[[' + b"1," * 3_000_000 + b"1]]}", JSON, "row_too_long"),
        (b'{"instances":[' + b"1," * 3_000_000 + b"1]}", JSON, "row_too_long"),
        (b'{"instances":[{"x":[' + b"1," * 3_000_000 + b"1]}]}", JSON, "row_too_long"),
        (instances(b"[]", 100_000)[:-2] + b"," + b"1," * 2_000_000 + b"1]}", JSON, "wrong_length"),
        (b'{"instances":[{' + b",".join(b'"%07d":1' % i for i in range(500_000)) + b"}]}", JSON, "row_too_long"),
        (instances(b'{"a":0}', 150_000), JSON, "unknown_feature"),
        (b'{"instances":[[' + b"[]," * 150_000 + b"[]]]}", JSON, "invalid_field"),
        (b'{"instances":' + b"[" * 1_000_000, JSON, "invalid_json"),
        (b'{"instances":[' + b'"' + b"x" * MANY + b'"]}', JSON, "row_too_long"),
        (b'{"' + b"x" * MANY + b'":1}', JSON, "invalid_field"),
        (b"1," * 3_000_000, CSV, "row_too_long"),
        (EMPTY_ROW + b"\n" + b"1" * MANY, CSV, "row_too_long"),
        (b" " * MANY, CSV, "no_rows"),
        (b"\n" * MANY, CSV, "no_rows"),
        (b"\x0b" * MANY + b"1", CSV, "row_too_long"),
        ("\u2028".encode() * 2_000_000, CSV, "row_too_long"),
        (b"\n".join([b"1,2"] * 200_000), CSV, "wrong_length"),
        (b"\n".join([FULL_ROW] * 90_000) + b"\n1", CSV, "wrong_length"),
    ],
    ids=[
        "a row of millions", "millions of numbers", "an array in a row", "rows, then numbers", "a row of names",
        "unknown names", "rows in a row", "nested", "one text", "one name", "one line of csv", "one number",
        "blanks", "line feeds", "vertical tabs", "line separators", "short rows", "one bad row at the end",
    ],
)  # fmt: skip
def test_a_body_of_the_largest_size_is_refused_within_a_small_multiple_of_it(
    model: ChurnModel, body: bytes, content_type: str, code: str
) -> None:
    errors: list[ServingError] = []
    peak = peak_bytes(lambda: errors.append(refusal(model, body, content_type)))
    assert (errors[0].status, errors[0].code) == (400, code)
    assert len(json.dumps(errors[0].body())) < 5000
    assert peak + len(body) < 6 * MAX_BODY_BYTES


def test_a_model_of_many_steps_takes_fewer_rows_and_always_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MAX_STEPS", 10 * 100)
    monkeypatch.setattr(TreeEnsemble, "steps_per_row", 10)
    model = model_of(1.0, trees=10)
    assert model.invoke(Invocation(b"\n".join([EMPTY_ROW] * 100), CSV)).body.count(b",") == 99
    error = refusal(model, b"\n".join([EMPTY_ROW] * 101), CSV)
    assert (error.status, error.code) == (413, "too_many_rows")
    assert "101 rows; this model takes at most 100 per request" in error.message
    monkeypatch.setattr(TreeEnsemble, "steps_per_row", 10**9)
    assert model_of(1.0, trees=10).invoke(Invocation(EMPTY_ROW, CSV)).body == b"10.0"


def test_a_bad_value_far_down_is_named_by_its_row() -> None:
    model = model_of(0.5)
    rows = [FULL_ROW] * 20_000
    rows[17_000] = FULL_ROW.replace(b"1.5", b"1e39", 1)
    assert refusal(model, b"\n".join(rows), CSV).field == f"row 17001.{FEATURES[0]}"
    rows[17_000] = FULL_ROW.replace(b"1.5", b"x", 1)
    assert refusal(model, b"\n".join(rows), CSV).field == f"row 17001.{FEATURES[0]}"
    body = b'{"instances":[' + b",".join(b"[" + row + b"]" for row in rows).replace(b"x", b'"x"') + b"]}"
    assert refusal(model, body, JSON).field == "instances[17000][0]"
    assert refusal(model, body.replace(b'["x",', b"["), JSON).field == "row 17001"


def joined(blocks: list[FloatArray]) -> FloatArray:
    return np.concatenate(blocks)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.integers(1, 9000),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([",", ", ", " ,\n "]),
)
def test_rows_are_the_same_in_one_block_and_in_many(rows: int, seed: int, ending: str, between: str) -> None:
    numbers = np.random.default_rng(seed).integers(0, 10_000, (rows, len(FEATURES))) / 8
    csv = CsvRows(ending.join(",".join(map(str, row)) for row in numbers.tolist()).encode())
    texts = [json.dumps(row if index % 2 else dict(zip(FEATURES, row, strict=True)))
             for index, row in enumerate(numbers.tolist())]  # fmt: skip
    of_json = JsonRows(f'{{"instances": [{between.join(texts)}]}}'.encode())
    for read in (csv, of_json):
        assert read.count == rows
        assert (joined(list(read.blocks())) == numbers).all()
