"""Model files that nobody has checked: each is served rightly, or refused with a reason."""

import asyncio
import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.serving.app import Invocation, ServingOptions
from containers.serving.multi_model import MemoryBudget, ModelLoadError, create_multi_model_app
from containers.tabular import ubjson
from containers.tabular.features import FEATURES, MODEL_FILE
from containers.tabular.forest import ModelError
from containers.tabular.handler import MAX_MODEL_BYTES, ChurnModel, load_model
from containers.tabular.trees import read_model
from model_build.tabular.data import Table
from tests.unit.containers.tabular_archives import Document, archive
from tests.unit.containers.ubjson_encoding import encoded

CSV_ROW = ",".join(["1"] * len(FEATURES))
CSV_TABLE = "\n".join([CSV_ROW, "," * (len(FEATURES) - 1)] * 10)


def trees(document: Document) -> list[Document]:
    found: list[Document] = document["learner"]["gradient_booster"]["model"]["trees"]
    return found


def test_an_archive_with_the_model_alone_is_loaded_whatever_its_name_or_folder(tmp_path: Path, model: bytes) -> None:
    for path in ("xgboost-model", "model.json", "sub/folder/model.bin"):
        folder = tmp_path / path.replace("/", "-")
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(model)
        assert load_model(folder).size_bytes > 0


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ModelLoadError, match="must hold one model file, such as xgboost-model; it holds nothing"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["absent", "x" * 5000])
def test_a_missing_folder_is_no_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ModelLoadError, match=r"is not a folder: the url must be that of|cannot be read: File name too long"
    ):
        load_model(tmp_path / name)


def test_a_file_where_the_folder_belongs_is_no_model(tmp_path: Path, model: bytes) -> None:
    archive(tmp_path, model=model)
    with pytest.raises(ModelLoadError, match="is not a folder: the url must be that of an extracted archive"):
        load_model(tmp_path / "model")


def test_several_files_are_no_model_and_the_first_five_are_named(tmp_path: Path, model: bytes) -> None:
    archive(tmp_path, **{f"model{number}": model for number in range(7)})
    with pytest.raises(ModelLoadError, match=r"it holds model0, model1, model2, model3, model4$"):
        load_model(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_unopened(tmp_path: Path, protocol: int) -> None:
    archive(tmp_path, **{MODEL_FILE: pickle.dumps(Bomb(), protocol)})
    with pytest.raises(ModelLoadError, match=r"neither UBJSON nor JSON .*; save it by XGBoost"):
        load_model(tmp_path)


def test_a_pickle_beside_the_model_is_refused_unopened(tmp_path: Path, model: bytes) -> None:
    archive(tmp_path, **{MODEL_FILE: model, "code.pkl": pickle.dumps(Bomb())})
    with pytest.raises(ModelLoadError, match=r"it holds code\.pkl, xgboost-model"):
        load_model(tmp_path)


def test_a_link_is_no_model_wherever_it_leads(tmp_path: Path, model: bytes) -> None:
    archive(tmp_path, model=model)
    for number, target in enumerate([tmp_path / "model", tmp_path, tmp_path / "absent", Path("/dev/zero")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / MODEL_FILE).symlink_to(target)
        with pytest.raises(ModelLoadError, match="it holds xgboost-model"):
            load_model(folder)


def test_a_pipe_is_no_model_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MODEL_FILE)
    with pytest.raises(ModelLoadError, match="it holds xgboost-model"):
        load_model(tmp_path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    archive(tmp_path, **{MODEL_FILE: b""})
    os.truncate(tmp_path / MODEL_FILE, MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelLoadError, match=f"has {MAX_MODEL_BYTES + 1} bytes; at most {MAX_MODEL_BYTES} are read"):
        load_model(tmp_path)


def test_a_model_of_other_features_is_refused_with_both_numbers(tmp_path: Path, table: Table) -> None:
    data = xgb.DMatrix(table.features[:, :7], label=table.labels, nthread=1)
    booster = xgb.train({"nthread": 1, "objective": "binary:logistic"}, data, 1)
    archive(tmp_path, **{MODEL_FILE: bytes(booster.save_raw("ubj"))})
    with pytest.raises(ModelLoadError, match="xgboost-model reads 7 features, churn models read 16"):
        load_model(tmp_path)


def test_bad_archives_are_400s_and_the_model_that_is_there_keeps_serving(tmp_path: Path, model: bytes) -> None:
    good = tmp_path / "good"
    good.mkdir()
    archive(good, **{MODEL_FILE: model})
    contents: dict[str, dict[str, bytes]] = {
        "empty": {},
        "empty-file": {MODEL_FILE: b""},
        "damaged": {MODEL_FILE: model[: len(model) // 2]},
        "flipped": {MODEL_FILE: model.replace(b"gbtree", b"gbtrex")},
        "pickle": {MODEL_FILE: pickle.dumps(Bomb())},
        "several": {"a": model, "b": model},
        "array": {MODEL_FILE: b"[$d#U\x01\0\0\0\0"},
    }
    for name, files in contents.items():
        (tmp_path / name).mkdir()
        archive(tmp_path / name, **files)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / MODEL_FILE).symlink_to(good / MODEL_FILE)

    async def scenario() -> None:
        budget, options = MemoryBudget(limit_bytes=2**50, base_bytes=0), ServingOptions(content_types=("text/csv",))
        transport = httpx.ASGITransport(app=create_multi_model_app(load_model, budget, options))
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:

            async def put(name: str) -> httpx.Response:
                return await client.post("/models", json={"model_name": name, "url": str(tmp_path / name)})

            assert (await put("good")).status_code == 200
            answer = (await client.post("/models/good/invoke", content=CSV_ROW)).text
            for name in (*contents, "link", "absent"):
                refused = await put(name)
                error = refused.json()["error"]
                assert (refused.status_code, error["code"], error["field"]) == (400, "model_not_loadable", "url")
                assert len(error["message"]) > 20
                assert (await client.post(f"/models/{name}/invoke", content=CSV_ROW)).status_code == 404
                assert (await client.post("/models/good/invoke", content=CSV_ROW)).text == answer
            listed = (await client.get("/models")).json()["models"]
            assert [entry["modelName"] for entry in listed] == ["good"]

    asyncio.run(scenario())


def set_at(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    changed = copy.deepcopy(document)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


TREE = ("learner", "gradient_booster", "model", "trees", 0)
PARAMETERS = ("learner", "learner_model_param")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ((*TREE, "left_children"), [], "its arrays differ in length"),
        ((*TREE, "right_children"), [-1], "its arrays differ in length"),
        ((*TREE, "split_conditions"), 1.0, "its arrays differ in length"),
        ((*TREE, "default_left"), [[0]], "its arrays differ in length"),
        ((*TREE, "left_children", 0), 0, "node 0 is not a valid child"),
        ((*TREE, "left_children", 0), 99, "node 99 is not a valid child"),
        ((*TREE, "left_children", 0), -2, "node -2 is not a valid child"),
        ((*TREE, "right_children", 0), -1, "node -1 is not a valid child"),
        ((*TREE, "right_children", 1), 2, "is not a valid child"),
        ((*TREE, "split_indices", 0), 16, "tree 0 reads feature 16 of 16"),
        ((*TREE, "split_indices", 0), -1, "reads feature -1 of 16"),
        ((*TREE, "split_indices", 0), 1.5, "tree 0: split_indices holds float64"),
        ((*TREE, "left_children", 0), 1.5, "tree 0: left_children holds float64"),
        ((*TREE, "left_children", 0), 2**32 + 1, "tree 0: left_children does not fit into 32 bits"),
        ((*TREE, "left_children", 0), "1", "tree 0: left_children holds <U"),
        ((*TREE, "left_children", 0), None, "tree 0: left_children holds object"),
        ((*TREE, "left_children", 0), 10**30, "tree 0: left_children holds object"),
        ((*TREE, "split_conditions", 0), float("nan"), "a leaf or a threshold is not a number"),
        ((*TREE, "split_conditions", -1), float("inf"), "a leaf or a threshold is not a number"),
        ((*TREE, "split_conditions", -1), 1e39, "a leaf or a threshold is not a number"),
        ((*TREE, "split_conditions", 0), "0", "tree 0: split_conditions holds <U"),
        ((*TREE, "split_type", 0), 1, "has categorical splits"),
        ((*PARAMETERS, "base_score"), "NaN", "base_score is nan: it must be a finite number"),
        ((*PARAMETERS, "base_score"), "1E40", "base_score is inf: it must be a finite number"),
        ((*PARAMETERS, "base_score"), "0", "base_score is 0.0: binary:logistic needs a value between 0 and 1"),
        ((*PARAMETERS, "base_score"), "[5E-1,5E-1]", "lacks a part that XGBoost writes"),
        ((*PARAMETERS, "base_score"), None, "lacks a part that XGBoost writes"),
        ((*PARAMETERS, "num_feature"), "3", "reads feature"),
        ((*PARAMETERS, "num_feature"), "many", "lacks a part that XGBoost writes"),
        ((*PARAMETERS, "num_class"), "3", "several outputs"),
        ((*PARAMETERS, "num_target"), "2", "several outputs"),
        (("learner", "objective", "name"), ["binary:logistic"], "lacks a part that XGBoost writes"),
        (("learner", "gradient_booster", "name"), {}, "only gbtree is supported"),
        (("learner", "gradient_booster", "model"), [], "lacks a part that XGBoost writes"),
        (("learner", "gradient_booster", "model", "trees"), {}, "has no trees"),
        (("learner", "gradient_booster", "model", "trees"), [[]], "lacks a part that XGBoost writes"),
        (TREE, None, "lacks a part that XGBoost writes"),
        (("learner",), "learner", "lacks a part that XGBoost writes"),
    ],
)
def test_a_document_that_lies_is_refused_with_where(
    document: Document, path: tuple[Any, ...], value: Any, says: str
) -> None:
    lying = set_at(document, path, value)
    with pytest.raises(ModelError, match=says):
        read_model(json.dumps(lying).encode())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*TREE, "left_children"), np.array([1, -1, -1], np.float32)),
        ((*TREE, "split_indices"), np.full(7, np.nan)),
        (("learner", "gradient_booster", "model", "trees"), np.zeros(3, np.uint8)),
        (("learner", "gradient_booster", "name"), np.zeros(2, np.uint8)),
        (("learner", "objective"), np.zeros(2, np.uint8)),
        (("learner", "objective", "name"), np.zeros(2, np.uint8)),
        (PARAMETERS, np.zeros(1, np.float32)),
        ((*PARAMETERS, "num_feature"), np.full(1, 16, np.uint8)),
        ((*PARAMETERS, "base_score"), np.full(2, 0.5)),
        (("learner",), np.zeros(1, np.uint8)),
    ],
)
def test_an_array_where_something_else_belongs_is_refused(
    document: Document, path: tuple[Any, ...], value: Any
) -> None:
    with pytest.raises(ModelError):
        read_model(encoded(set_at(document, path, value)))


@pytest.mark.parametrize("name", ["learner", "objective", "gradient_booster", "learner_model_param"])
def test_a_document_that_lacks_a_part_is_refused_with_its_name(document: Document, name: str) -> None:
    lacking = copy.deepcopy(document)
    (lacking if name == "learner" else lacking["learner"]).pop(name)
    with pytest.raises(ModelError, match=rf"lacks a part that XGBoost writes \(KeyError\('{name}'\)\); save it again"):
        read_model(json.dumps(lacking).encode())


@pytest.mark.parametrize("name", ["left_children", "right_children", "split_indices", "split_conditions", "split_type"])
def test_a_tree_that_lacks_an_array_is_refused_with_its_name(document: Document, name: str) -> None:
    lacking = copy.deepcopy(document)
    del trees(lacking)[0][name]
    with pytest.raises(ModelError, match=f"KeyError.*{name}"):
        read_model(json.dumps(lacking).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[", b"\0", b"N" * 1000, b"S", b"SU\x05ab", b"null", b"[]", b"{}", b"i\x05", b"T", b"Z",
        b"[$d#U\x01\0\0\0\0", b"[$U#l\x7f\xff\xff\xff", b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff", b"[#i\xff",
        b"[$U]", b"{U\x01\xff", b"SU\x01\xff", b"C\xff", b"{#U\x02U\x01aZ", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"learner": NaN}', b'{"learner"', b"\x1f\x8b\x08\0", b"PK\x03\x04", b"binf\0\0\0\x3f", b'{"' + b"9" * 5000,
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"neither UBJSON nor JSON|lacks a part that XGBoost writes"):
        read_model(data)


def test_ubjson_and_json_of_one_booster_are_one_document(model: bytes, document: Document) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(member) for name, member in value.items()}
        return [plain(member) for member in value] if isinstance(value, list | np.ndarray) else value

    read = plain(ubjson.loads(model))
    assert plain(trees(read)[0]["left_children"]) == trees(document)[0]["left_children"]
    assert read["learner"]["learner_model_param"] == document["learner"]["learner_model_param"]
    assert set(read["learner"]) == set(document["learner"])
    assert [set(tree) for tree in trees(read)] == [set(tree) for tree in trees(document)]


def answers_with_probabilities(model: ChurnModel) -> bool:
    bodies = [model.invoke(Invocation(body.encode(), "text/csv")).body for body in (CSV_ROW, CSV_TABLE)]
    return all(0 <= float(answer) <= 1 for body in bodies for answer in body.split(b","))


def served(content: bytes) -> bool:
    """Whether the file is served, and then rightly; everything but a ModelError is a failure of the test."""
    try:
        read = read_model(content)
    except ModelError:
        return False
    assert read.features != len(FEATURES) or answers_with_probabilities(ChurnModel(read))
    return True


def test_a_file_cut_at_any_byte_is_refused(model: bytes) -> None:
    assert served(model)
    assert [length for length in range(len(model)) if served(model[:length])] == []


def test_a_json_file_cut_at_any_tenth_byte_is_refused(document: Document) -> None:
    text = json.dumps(document).encode()
    assert served(text)
    assert [length for length in range(0, len(text), 10) if served(text[:length])] == []


def test_a_file_with_any_one_byte_changed_is_served_or_refused(model: bytes) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for position, change in enumerate(rng.integers(1, 256, len(model)).tolist()):
        damaged = bytearray(model)
        damaged[position] ^= change
        outcomes.add(served(bytes(damaged)))
    assert outcomes == {True, False}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.data())
def test_a_file_with_bits_flipped_and_bytes_dropped_or_doubled_is_served_or_refused(
    data: st.DataObject, model: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(model)
    places = st.integers(0, len(model) - 1)
    for place, bit in data.draw(st.lists(st.tuples(places, st.integers(0, 7)), max_size=5)):
        damaged[place] ^= 1 << bit
    for place in data.draw(st.lists(places, max_size=2)):
        del damaged[place : place + data.draw(st.integers(0, 20))]
    for place in data.draw(st.lists(places, max_size=2)):
        damaged[place:place] = damaged[place : place + data.draw(st.integers(0, 20))]
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    archive(folder, **{MODEL_FILE: bytes(damaged)})
    try:
        loaded = load_model(folder)
    except ModelLoadError as error:
        assert str(error).startswith(MODEL_FILE)
    else:
        assert answers_with_probabilities(loaded)
