"""What a churn model answers to a request, through the multi-model application and models that XGBoost trained."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.serving.app import Invocation, ServingOptions
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.errors import ServingError
from containers.serving.multi_model import MemoryBudget, create_multi_model_app
from containers.tabular.features import FEATURES, MODEL_FILE
from containers.tabular.handler import ChurnModel, load_model
from model_build.tabular.booster import Job, fit, predict
from model_build.tabular.data import Table, fetch, parse
from model_build.tabular.recipe import GeneratedSource, TabularRecipe

T = TypeVar("T")
ROOMY = MemoryBudget(limit_bytes=2**50, base_bytes=0)
TOLERANCE = 1e-6
ROW = dict(zip(FEATURES, [128, 25, 265.1, 110, 197.4, 99, 244.7, 91, 10, 3, 1, 0, 1, 0, 0, 1], strict=True))
CSV_ROW = ",".join(map(str, ROW.values()))
ORDER = ", ".join(FEATURES)


@pytest.fixture(scope="module")
def table() -> Table:
    return parse(fetch(GeneratedSource(customers=1020)))


@pytest.fixture(scope="module")
def boosters(table: Table) -> dict[str, bytes]:
    recipe = TabularRecipe(min_child_weight=0.1)
    of_states = {state: table.states == state for state in ("CA", "NY")}
    return {state: fit(Job(table.features[rows], table.labels[rows], recipe)) for state, rows in of_states.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, boosters: dict[str, bytes]) -> Path:
    """A folder with an extracted archive per state."""
    folder = tmp_path_factory.mktemp("models")
    for state, booster in boosters.items():
        (folder / state).mkdir()
        (folder / state / MODEL_FILE).write_bytes(booster)
    return folder


@pytest.fixture(scope="module")
def california(models: Path) -> ChurnModel:
    return load_model(models / "CA")


def talk(models: Path, scenario: Callable[[httpx.AsyncClient], Awaitable[T]], *, inline_bytes: int = 0) -> T:
    options = ServingOptions(
        queue_capacity=1024, content_types=("text/csv", "application/json"), inline_bytes=inline_bytes
    )

    async def go() -> T:
        app = create_multi_model_app(load_model, ROOMY, options)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            for state in ("CA", "NY"):
                loaded = await client.post("/models", json={"model_name": state, "url": str(models / state)})
                assert loaded.status_code == 200
            return await scenario(client)

    return asyncio.run(go())


def post(models: Path, body: bytes | str | object, accept: str | None = None, state: str = "CA") -> httpx.Response:
    """The answer to CSV where the body is text or bytes, to JSON where it is anything else."""
    csv = isinstance(body, str | bytes)
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    headers = {"content-type": "text/csv" if csv else "application/json"}
    if accept is not None:
        headers["accept"] = accept
    return talk(models, lambda client: client.post(f"/models/{state}/invoke", content=content, headers=headers))


def refusal(response: httpx.Response, status: int = 400) -> dict[str, str]:
    assert response.status_code == status, response.text
    told: dict[str, str] = response.json()["error"]
    return told


def ask(model: ChurnModel, body: bytes, content_type: str = "text/csv", accept: str = "*/*") -> bytes:
    return model.invoke(Invocation(body, content_type, accept)).body


def test_one_row_of_csv_is_answered_with_one_probability_in_csv(models: Path, boosters: dict[str, bytes]) -> None:
    response = post(models, CSV_ROW)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    expected = predict(boosters["CA"], np.array([list(ROW.values())], np.float32))
    assert [float(cell) for cell in response.text.split(",")] == pytest.approx(expected.tolist(), abs=TOLERANCE)


def test_each_model_answers_for_its_own_state(models: Path, boosters: dict[str, bytes], table: Table) -> None:
    rows = table.features[:40]
    body = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    for state in ("CA", "NY"):
        answers = [float(cell) for cell in post(models, body, state=state).text.split(",")]
        assert answers == pytest.approx(predict(boosters[state], rows).tolist(), abs=TOLERANCE)
    assert not np.allclose(predict(boosters["CA"], rows), predict(boosters["NY"], rows), atol=0.01)


@pytest.mark.parametrize("rows", [1, 2, 11, 12, 13, 14, 100, 5000])
def test_csv_answers_are_joined_by_commas_in_order_whatever_the_number_of_rows(
    models: Path, boosters: dict[str, bytes], table: Table, rows: int
) -> None:
    asked = np.resize(table.features, (rows, len(FEATURES)))
    text = post(models, "\n".join(",".join(map(str, row)) for row in asked.tolist())).text
    assert "\n" not in text
    answers = [float(cell) for cell in text.split(",")]
    assert answers == pytest.approx(predict(boosters["CA"], asked).tolist(), abs=TOLERANCE)


def test_a_request_is_answered_alike_on_the_event_loop_and_on_a_thread(models: Path) -> None:
    def answer(inline_bytes: int) -> str:
        return talk(
            models, lambda client: client.post("/models/CA/invoke", content=CSV_ROW), inline_bytes=inline_bytes
        ).text

    assert answer(0) == answer(4096)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("between", ["\n", "\r\n"])
def test_lines_may_end_in_any_way(models: Path, between: str, ending: str) -> None:
    assert len(post(models, CSV_ROW + between + CSV_ROW + ending).text.split(",")) == 2


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN"])
def test_an_empty_cell_is_a_missing_value(models: Path, boosters: dict[str, bytes], cell: str) -> None:
    values = [str(value) for value in ROW.values()]
    day_mins = FEATURES.index("day_mins")
    values[day_mins] = cell
    row = np.array([list(ROW.values())], np.float32)
    row[0, day_mins] = np.nan
    answer = float(post(models, ",".join(values)).text)
    assert answer == pytest.approx(float(predict(boosters["CA"], row)[0]), abs=TOLERANCE)


def test_json_rows_may_be_lists_and_objects_by_feature_name_in_one_request(models: Path) -> None:
    shuffled = dict(sorted(ROW.items()))
    response = post(models, {"instances": [list(ROW.values()), ROW, shuffled]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    scores = [prediction["score"] for prediction in response.json()["predictions"]]
    assert len(scores) == 3
    assert set(scores) == {float(post(models, CSV_ROW).text)}


def test_null_and_a_feature_that_is_not_named_are_missing_values(models: Path) -> None:
    without = {name: value for name, value in ROW.items() if name != "day_mins"}
    values = [None if name == "day_mins" else value for name, value in ROW.items()]
    response = post(models, {"instances": [without, ROW | {"day_mins": None}, values]})
    csv = float(post(models, ",".join("" if value is None else str(value) for value in values)).text)
    assert [prediction["score"] for prediction in response.json()["predictions"]] == [csv] * 3


def test_a_row_of_missing_values_only_is_answered(models: Path, boosters: dict[str, bytes]) -> None:
    nothing = float(predict(boosters["CA"], np.full((1, len(FEATURES)), np.nan, np.float32))[0])
    assert float(post(models, "," * (len(FEATURES) - 1)).text) == pytest.approx(nothing, abs=TOLERANCE)
    in_json = post(models, {"instances": [{}]}).json()["predictions"]
    assert in_json == [{"score": pytest.approx(nothing, abs=TOLERANCE)}]


@pytest.mark.parametrize(
    ("accept", "of_csv", "of_json"),
    [
        (None, "text/csv", "application/json"),
        ("", "text/csv", "application/json"),
        ("*/*", "text/csv", "application/json"),
        ("text/csv", "text/csv", "text/csv"),
        ("application/json", "application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json", "application/json"),
        ("text/*", "text/csv", "text/csv"),
        ("application/*", "application/json", "application/json"),
        ("image/png, text/csv", "text/csv", "text/csv"),
        ("application/json, text/csv", "application/json", "application/json"),
    ],
)
def test_accept_chooses_between_csv_and_json(models: Path, accept: str | None, of_csv: str, of_json: str) -> None:
    for body, expected in ((CSV_ROW, of_csv), ({"instances": [ROW]}, of_json)):
        response = post(models, body, accept)
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == expected


@pytest.mark.parametrize("accept", ["image/png", "text/html, application/xml", "json"])
def test_an_accept_that_no_answer_meets_is_a_406_that_names_both(models: Path, accept: str) -> None:
    assert refusal(post(models, CSV_ROW, accept), 406) == {
        "code": "not_acceptable",
        "field": "Accept",
        "message": f"Accept is '{accept}'; this model returns text/csv and application/json",
    }


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-npy", "text/libsvm", ""])
def test_another_media_type_is_a_415_that_names_both(models: Path, content_type: str) -> None:
    headers = {"content-type": content_type}
    response = talk(models, lambda client: client.post("/models/CA/invoke", content=CSV_ROW, headers=headers))
    assert refusal(response, 415)["message"] == (
        f"Content-Type is '{content_type}'; send one of: text/csv, application/json"
    )


def test_a_request_without_a_media_type_is_csv(models: Path) -> None:
    response = talk(models, lambda client: client.post("/models/CA/invoke", content=CSV_ROW))
    assert (response.status_code, response.text) == (200, post(models, CSV_ROW).text)


@pytest.mark.parametrize("body", ["", "\n", "\r\n\r\n", "  ", " \n "])
def test_a_body_without_a_row_is_a_400_that_names_the_features_in_order(models: Path, body: str) -> None:
    assert refusal(post(models, body)) == {
        "code": "no_rows",
        "message": f"the body has no rows; send one per line: {ORDER}",
    }


@pytest.mark.parametrize("body", [b"\xff\xfe", CSV_ROW.encode("utf-16"), b"1,2,\x80"])
def test_a_body_that_is_not_utf8_is_a_400(models: Path, body: bytes) -> None:
    told = refusal(post(models, body))
    assert told["code"] == "invalid_csv"
    assert told["message"].startswith("the body is not UTF-8 text (")
    assert told["message"].endswith(ORDER)


@pytest.mark.parametrize(
    ("body", "row", "length"),
    [
        ("1", 1, 1),
        (CSV_ROW + ",0", 1, 17),
        (CSV_ROW.rpartition(",")[0], 1, 15),
        (f"{CSV_ROW}\n{CSV_ROW}\n1,2", 3, 2),
        (f"{CSV_ROW}\n\n{CSV_ROW}", 2, 1),
        (CSV_ROW.replace(",", ";"), 1, 1),
        (CSV_ROW.replace(",", "\t"), 1, 1),
    ],
)
def test_a_row_of_another_length_is_a_400_that_names_the_row(models: Path, body: str, row: int, length: int) -> None:
    assert refusal(post(models, body)) == {
        "code": "wrong_length",
        "field": f"row {row}",
        "message": f"row {row} has {length} values; send 16: {ORDER}",
    }


@pytest.mark.parametrize(
    "cell", ["yes", "1.2.3", "'1'", '"1"', "1 2", "0x10", "None", "1_000", "\u0663", "12\u00a0000"]
)
def test_text_where_a_number_belongs_is_a_400_that_names_row_feature_and_text(models: Path, cell: str) -> None:
    bad = CSV_ROW.replace("265.1", cell)
    assert refusal(post(models, f"{CSV_ROW}\n{bad}")) == {
        "code": "not_a_number",
        "field": "row 2.day_mins",
        "message": f"row 2: day_mins is {cell!r}; send a number, or leave it empty if it is missing",
    }


def test_long_text_where_a_number_belongs_is_cut_in_the_answer(models: Path) -> None:
    assert len(post(models, CSV_ROW.replace("265.1", "x" * 100_000)).content) < 300


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "1e39", "-3.5e38", "1e999"])
def test_a_number_that_float32_does_not_hold_is_a_400_that_names_row_and_feature(models: Path, cell: str) -> None:
    assert refusal(post(models, f"{CSV_ROW}\n{CSV_ROW.replace('265.1', cell)}")) == {
        "code": "not_a_number",
        "field": "row 2.day_mins",
        "message": "row 2: day_mins is infinite, or too large for float32; "
        "send a number, or leave it empty if it is missing",
    }


@pytest.mark.parametrize(
    ("body", "code", "field", "says"),
    [
        (b"", "invalid_json", None, "the body is not JSON"),
        (b"hello", "invalid_json", None, "the body is not JSON"),
        (b"\xff", "invalid_json", None, "the body is not JSON"),
        (b'{"instances": [[', "invalid_json", None, "the body is not JSON"),
        (b'{"instances": [[NaN]]}', "invalid_json", None, "the body is not JSON"),
        (b'{"instances": [[Infinity]]}', "invalid_json", None, "the body is not JSON"),
        (b"[" * 100_000, "invalid_field", None, "Expected `object`, got `array`"),
        (b"[[1, 2]]", "invalid_field", None, "Expected `object`, got `array`"),
        (b"{}", "invalid_field", None, "missing required field `instances`"),
        (b'{"instances": [[0]], "more": 1}', "invalid_field", None, "unknown field `more`"),
        (b'{"instances": {}}', "invalid_field", "instances", "Expected `array`, got `object`"),
        (b'{"instances": 7}', "invalid_field", "instances", "Expected `array`, got `int`"),
        (b'{"instances": null}', "invalid_field", "instances", "got `null`"),
        (b'{"instances": []}', "no_rows", "instances", "instances is empty"),
        (b'{"instances": [7]}', "invalid_field", "instances[0]", "got `int`"),
        (b'{"instances": [{}, [[1]]]}', "invalid_field", "instances[1][0]", "got `array`"),
        (b'{"instances": [[1, "2"]]}', "invalid_field", "instances[0][1]", "got `str`"),
        (b'{"instances": [[true]]}', "invalid_field", "instances[0][0]", "got `bool`"),
        (b'{"instances": [{"day_mins": "1"}]}', "invalid_field", "instances[0][...]", "got `str`"),
        (b'{"instances": [[1, 2]]}', "wrong_length", "row 1", "row 1 has 2 values; send 16"),
        (b'{"instances": [{}, []]}', "wrong_length", "row 2", "row 2 has 0 values; send 16"),
        (b'{"instances": [{"day_mins": 1e39}]}', "not_a_number", "row 1.day_mins", "too large for float32"),
        (b'{"instances": [{}, {"day_min": 1}]}', "unknown_feature", "instances[1]", "has 'day_min'; features are"),
        (b'{"instances": [{"Day Mins": 1}]}', "unknown_feature", "instances[0]", f"features are {ORDER}"),
    ],
)
def test_a_bad_json_body_is_a_400_that_names_field_and_fix(
    models: Path, body: bytes, code: str, field: str | None, says: str
) -> None:
    headers = {"content-type": "application/json"}
    response = talk(models, lambda client: client.post("/models/CA/invoke", content=body, headers=headers))
    told = refusal(response)
    assert (told["code"], told.get("field")) == (code, field)
    assert says.lower() in told["message"].lower()
    assert "send" in told["message"] or ORDER in told["message"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "9" * 5000])
def test_a_json_number_beyond_all_floats_is_a_400(models: Path, number: str) -> None:
    body = f'{{"instances": [{{"day_mins": {number}}}]}}'.encode()
    headers = {"content-type": "application/json"}
    response = talk(models, lambda client: client.post("/models/CA/invoke", content=body, headers=headers))
    assert refusal(response)["code"] in ("invalid_json", "invalid_field", "not_a_number")


def test_a_long_feature_name_is_cut_in_the_answer(models: Path) -> None:
    assert len(post(models, {"instances": [{"x" * 100_000: 1}]}).content) < 500


def test_after_every_bad_request_both_models_keep_serving(models: Path) -> None:
    bad = [b"", b"x", b"\xff", b"1,2", CSV_ROW.replace("265.1", "inf").encode(), b"x" * (MAX_BODY_BYTES + 1)]

    async def scenario(client: httpx.AsyncClient) -> None:
        before = [(await client.post(f"/models/{state}/invoke", content=CSV_ROW)).text for state in ("CA", "NY")]
        for body in bad:
            assert (await client.post("/models/CA/invoke", content=body)).status_code in (400, 413)
            assert (await client.post("/models", content=body)).status_code in (400, 413)
        after = [(await client.post(f"/models/{state}/invoke", content=CSV_ROW)).text for state in ("CA", "NY")]
        assert after == before

    talk(models, scenario)


def test_many_requests_at_once_are_answered_as_one_by_one(models: Path, table: Table) -> None:
    bodies = [",".join(map(str, row)) for row in table.features[:100].tolist()]

    async def scenario(client: httpx.AsyncClient) -> None:
        paths = [f"/models/{state}/invoke" for state in ("CA", "NY")] * 50
        asked = list(zip(paths, bodies, strict=True))
        together = await asyncio.gather(*(client.post(path, content=body) for path, body in asked))
        assert [answer.text for answer in together] == [
            (await client.post(path, content=body)).text for path, body in asked
        ]

    talk(models, scenario)


CELLS = st.one_of(
    st.floats(width=32).map(str),
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", " ", "x", "-", "1e", "--1", "1_0", "nan", "\0", "\x1c", "\u2028", "=1+1", "0" * 400]),
    st.text(max_size=4),
)
TABLES = st.lists(st.lists(CELLS, max_size=17).map(",".join), max_size=3).map("\n".join)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FEATURES, "x", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def answered_or_refused(model: ChurnModel, body: bytes, content_type: str) -> None:
    try:
        scores = [float(cell) for cell in ask(model, body, content_type, "text/csv").split(b",")]
    except ServingError as error:
        assert error.status == 400
        assert error.message
        return
    assert all(0 <= score <= 1 for score in scores)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(TABLES | st.binary(max_size=60))
def test_any_csv_is_answered_with_probabilities_or_refused(california: ChurnModel, body: str | bytes) -> None:
    encoded = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    answered_or_refused(california, encoded, "text/csv")


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.fixed_dictionaries({"instances": st.lists(JSON_VALUES, max_size=3)}) | JSON_VALUES, st.integers(0, 400))
def test_any_json_is_answered_with_probabilities_or_refused(california: ChurnModel, body: Any, cut: int) -> None:
    encoded = json.dumps(body).encode()
    answered_or_refused(california, encoded, "application/json")
    answered_or_refused(california, encoded[:cut], "application/json")
