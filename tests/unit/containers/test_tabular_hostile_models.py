"""Model files that are made to take memory or time: each is refused for its numbers, and models in use are served."""

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from containers.serving.app import Invocation, RunOnThread, ServingOptions
from containers.serving.multi_model import MemoryBudget, create_multi_model_app
from containers.tabular import ubjson
from containers.tabular.__main__ import _LOADING_FACTOR
from containers.tabular.documents import MAX_JSON_BYTES
from containers.tabular.features import FEATURES, MODEL_FILE
from containers.tabular.forest import MAX_DEPTH, MAX_NODES, ModelError
from containers.tabular.handler import ChurnModel, load_model
from containers.tabular.trees import TreeEnsemble, read_model
from tests.allocations import peak_bytes

Tree = dict[str, Any]

CSV_ROW = ",".join(["1"] * len(FEATURES)).encode()
MARKERS = {"u1": b"U", "i4": b"l", "f4": b"d"}
FREE_BYTES = 4 * 2**20
"""What reading any file may take besides its size, for the limits that small files have too."""


def length(number: int) -> bytes:
    return b"l" + struct.pack(">i", number)


def encoded(value: object) -> bytes:
    """UBJSON as XGBoost writes it."""
    match value:
        case dict():
            members = (length(len(name)) + name.encode() + encoded(member) for name, member in value.items())
            return b"{" + b"".join(members) + b"}"
        case list():
            return b"[#" + length(len(value)) + b"".join(map(encoded, value))
        case str():
            return b"S" + length(len(value)) + value.encode()
        case np.ndarray():
            content = value.astype(value.dtype.newbyteorder(">")).tobytes()
            return b"[$" + MARKERS[value.dtype.str[1:]] + b"#" + length(len(value)) + content
    raise TypeError(value)


def document(*trees: Tree) -> dict[str, Any]:
    parameters = {"num_feature": str(len(FEATURES)), "num_class": "0", "num_target": "1", "base_score": "5E-1"}
    booster = {"name": "gbtree", "model": {"trees": list(trees)}}
    objective = {"name": "binary:logistic"}
    return {"learner": {"gradient_booster": booster, "learner_model_param": parameters, "objective": objective}}


def as_json(value: Any) -> bytes:
    return json.dumps(value, default=lambda array: array.tolist()).encode()


def tree(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], kind: str = "i4") -> Tree:
    """Splits on feature 0, with the arrays of 34 bytes for each node that XGBoost writes; a leaf has left == -1."""
    nodes = len(left)
    integers = ("parents", "split_indices")
    floats = ("base_weights", "loss_changes", "sum_hessian")
    return {
        "left_children": left.astype(kind),
        "right_children": right.astype(kind),
        **{name: np.zeros(nodes, kind) for name in integers},
        **{name: np.full(nodes, 0.0009765625, "f4") for name in floats},
        "split_conditions": np.zeros(nodes, "f4"),
        **{name: np.zeros(nodes, "u1") for name in ("default_left", "split_type")},
    }


def chain(depth: int) -> Tree:
    """A tree in which every split has a leaf on its left and the next split on its right."""
    nodes = np.arange(2 * depth + 1)
    splits = (nodes % 2 == 0) & (nodes < 2 * depth)
    return tree(np.where(splits, nodes + 1, -1), np.where(splits, nodes + 2, -1))


def full(depth: int) -> Tree:
    """A tree in which every leaf has the same distance from the root."""
    nodes = np.arange(2 ** (depth + 1) - 1)
    splits = nodes < 2**depth - 1
    return tree(np.where(splits, 2 * nodes + 1, -1), np.where(splits, 2 * nodes + 2, -1))


def served(model: TreeEnsemble) -> bool:
    few, many = np.ones((1, len(FEATURES)), np.float32), np.ones((20, len(FEATURES)), np.float32)
    return all(set(model.predict(rows).tolist()) == {0.5} for rows in (few, many))


@pytest.mark.parametrize("encode", [encoded, as_json])
@pytest.mark.parametrize("depth", [1, 300, MAX_DEPTH])
def test_a_tree_up_to_the_greatest_depth_is_served(encode: Callable[[Any], bytes], depth: int) -> None:
    assert served(read_model(encode(document(full(3), chain(depth)))))


@pytest.mark.parametrize(
    ("encode", "depth"),
    [(encoded, MAX_DEPTH + 1), (encoded, 20_000), (encoded, 200_000), (as_json, MAX_DEPTH + 1), (as_json, 20_000)],
)
def test_a_deeper_tree_is_refused_with_its_number_and_the_limit(encode: Callable[[Any], bytes], depth: int) -> None:
    with pytest.raises(ModelError, match=f"tree 1 is deeper than {MAX_DEPTH} splits: train with a smaller max_depth"):
        read_model(encode(document(full(3), chain(depth))))


def test_a_tree_whose_nodes_lead_to_each_other_twice_ends_at_the_first() -> None:
    looping = chain(50)
    looping["left_children"] = looping["right_children"].copy()
    with pytest.raises(ModelError, match="tree 0: node 2 is not a valid child"):
        read_model(encoded(document(looping)))


@pytest.mark.parametrize("encode", [encoded, as_json])
def test_a_large_model_is_served_within_the_memory_that_its_load_reserves(encode: Callable[[Any], bytes]) -> None:
    content = encode(document(*[full(12)] * 12))
    read: list[TreeEnsemble] = []
    peak = peak_bytes(lambda: read.append(read_model(content)))
    assert served(read[0])
    assert read[0].size_bytes < peak + len(content) < _LOADING_FACTOR * len(content)


HOSTILE = {
    "millions of empty arrays": b"[" + b"[]" * 1_000_000 + b"]",
    "millions of empty objects": b"[" + b"{}" * 1_000_000 + b"]",
    "millions of arrays of one number": b"[" + b"[$U#U\x01\x07" * 300_000 + b"]",
    "millions of empty texts": b"[" + b"SU\0" * 1_000_000 + b"]",
    "millions of constants": b"[" + b"T" * 1_000_000 + b"]",
    "a counted array of millions": b"[#" + length(1_000_000) + b"[]" * 1_000_000,
    "a typed array of empty arrays": b"[$[#" + length(1_000_000) + b"]" * 1_000_000,
    "millions of no-ops": b"{" + b"N" * 2_000_000 + b"}",
    "JSON of millions of empty arrays": b'{"learner": [' + b"[]," * 2_000_000 + b"[]]}",
    "JSON of millions of numbers": b'{"learner": [' + b"300," * 2_000_000 + b"0]}",
    "JSON of millions of numbers in a tree": b'{"trees": [{"left_children": [' + b"0," * 1_000_000 + b"0]}]}",
    "JSON of millions of empty trees": b'{"trees": [' + b"{}," * 3_000_000 + b"{}]}",
    "JSON of one tree of millions of numbers": b'{"trees": [{"left_children": [' + b"30000," * 3_000_000 + b"0]}]}",
    "JSON nested a million times": b'{"trees": ' + b"[" * 1_000_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_file_of_millions_of_tiny_parts_is_refused_within_the_memory_that_its_load_reserves(content: bytes) -> None:
    def refused() -> None:
        with pytest.raises(ModelError, match="neither UBJSON nor JSON"):
            read_model(content)

    assert peak_bytes(refused) + len(content) < _LOADING_FACTOR * len(content) + FREE_BYTES


def test_one_long_text_in_an_array_of_numbers_is_not_multiplied_by_its_length() -> None:
    lying = full(10)
    lying["split_conditions"] = ["x" * 100_000, *[0.5] * (len(lying["left_children"]) - 1)]
    content = as_json(document(lying))

    def refused() -> None:
        with pytest.raises(ModelError, match="tree 0: split_conditions holds <U"):
            read_model(content)

    assert peak_bytes(refused) < 4 * 2**20


def test_no_ops_between_values_are_read_over_up_to_a_limit() -> None:
    assert ubjson.loads(b"[" + b"N" * 4000 + b"T]") == [True]
    with pytest.raises(ubjson.UbjsonError, match="byte 2: more than 4096 no-ops"):
        ubjson.loads(b"[" + b"N" * 5000 + b"T]")


def test_json_over_its_own_limit_is_refused_unread_with_the_fix() -> None:
    with pytest.raises(ModelError, match=f"at most {MAX_JSON_BYTES} are read: save it as UBJSON"):
        read_model(b'{"' + bytes(MAX_JSON_BYTES))


def test_more_nodes_than_any_model_may_have_are_refused_before_they_become_objects() -> None:
    nodes = MAX_NODES + 1
    # One leaf, and nodes that no row reaches.
    leaves = tree(np.full(nodes, -1), np.full(nodes, -1))
    with pytest.raises(
        ModelError, match=f"the model has {nodes} nodes up to tree 0: .* any file {MAX_NODES}; train fewer"
    ):
        read_model(encoded(document(leaves)))


def test_more_nodes_than_a_file_of_its_size_may_have_are_refused() -> None:
    narrow = {"left_children", "right_children", "split_indices", "default_left", "split_type", "split_conditions"}
    small = {name: array.astype("u1") for name, array in full(6).items() if name in narrow}
    with pytest.raises(ModelError, match=r"a file of its size may have \d+, any file"):
        read_model(encoded(document(*[small] * 2000)))


def test_what_takes_long_on_the_event_loop_is_left_to_a_thread() -> None:
    model = ChurnModel(read_model(encoded(document(*[chain(1000)] * 20))))
    row = Invocation(CSV_ROW, "text/csv", on_event_loop=True)
    rows = Invocation(b"\n".join([CSV_ROW] * 13), "text/csv", on_event_loop=True)
    assert model.invoke(row).body == b"0.5"
    with pytest.raises(RunOnThread):
        model.invoke(rows)
    assert model.invoke(Invocation(rows.body, "text/csv")).body == b",".join([b"0.5"] * 13)


def test_a_bad_file_of_each_kind_is_a_400_while_a_model_keeps_serving(tmp_path: Path) -> None:
    contents = {"good": encoded(document(full(3))), "deep": encoded(document(chain(200_000)))}
    contents |= {name: HOSTILE[name] for name in ("millions of empty arrays", "millions of no-ops")}
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / MODEL_FILE).write_bytes(content)

    async def scenario() -> None:
        budget = MemoryBudget(limit_bytes=2**50, base_bytes=0, loading_factor=_LOADING_FACTOR)
        app = create_multi_model_app(load_model, budget, ServingOptions(content_types=("text/csv",), inline_bytes=4096))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:

            async def load(name: str) -> httpx.Response:
                return await client.post("/models", json={"model_name": name, "url": str(tmp_path / name)})

            assert (await load("good")).status_code == 200
            loads = [asyncio.ensure_future(load(name)) for name in contents if name != "good"]
            while not all(each.done() for each in loads):
                assert (await client.post("/models/good/invoke", content=CSV_ROW)).text == "0.5"
                assert (await client.get("/ping")).status_code == 200
                await asyncio.sleep(0.01)
            assert {(each.result().status_code, each.result().json()["error"]["code"]) for each in loads} == {
                (400, "model_not_loadable")
            }

    asyncio.run(scenario())


def test_a_load_reserves_what_it_takes_at_its_peak_and_not_the_size_of_its_file(tmp_path: Path) -> None:
    content = encoded(document(full(8)))
    (tmp_path / MODEL_FILE).write_bytes(content)

    async def load(limit: float) -> int:
        budget = MemoryBudget(limit_bytes=int(limit), base_bytes=0, headroom=0, loading_factor=8)
        transport = httpx.ASGITransport(app=create_multi_model_app(load_model, budget, ServingOptions()))
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return (await client.post("/models", json={"model_name": "a", "url": str(tmp_path)})).status_code

    assert asyncio.run(load(8 * len(content) - 8)) == 507
    assert asyncio.run(load(8 * len(content) + 8)) == 200
