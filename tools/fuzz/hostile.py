"""Requests and models of the largest size, designed to use much time or memory, by container."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from containers.saved_model.signature import IMAGE_SIDE
from containers.serving.contract import MAX_BODY_BYTES
from containers.tabular.features import FEATURES
from tools.fuzz.wire import Request

JSON, CSV, NPY, PNG = "application/json", "text/csv", "application/x-npy", "image/png"
_EMPTY_ROW = b"," * (len(FEATURES) - 1)


def _filled(begin: bytes, part: bytes, end: bytes) -> bytes:
    """Return a body that repeats a part until the size limit."""
    return begin + part * ((MAX_BODY_BYTES - len(begin) - len(end)) // len(part)) + end


_ANY_JSON = (
    _filled(b'{"instances":[', b"{},", b"{}]}"),
    _filled(b'{"instances":[', b"[],", b"[]]}"),
    _filled(b'{"instances":[', b"1,", b"1]}"),
    _filled(b'{"instances":[[', b"1,", b"1]]}"),
    _filled(b'{"instances":[{"a":[', b"[],", b"[]]}]}"),
    _filled(b'{"instances":', b"[", b""),
    _filled(b'{"instances":[[[', b"[0,0,0],", b"[0,0,0]]]]}"),
    _filled(b'{"instances":[', b"[[[0,0,0]]],", b"[[[0,0,0]]]]}"),
    _filled(b'{"', b"x", b'":1}'),
    _filled(b'{"a":[', b'"",', b'""]}'),
    _filled(b"[", b"{},", b"{}]"),
    _filled(b"", b" ", b""),
    _filled(b"{", b"\xff", b"}"),
    b"[" * 100_000,
)
_QUESTIONS = (
    _filled(b"[", b'{"question":"w1","context":"w2"},', b'{"question":"w1","context":"w2"}]'),
    _filled(b'{"question":"w1","context":"', b"w2 ", b'"}'),
    _filled(b'{"question":"', b"w1 ", b'","context":"w2"}'),
    b"[" + b",".join([b'{"question":"w1","context":"' + b"w2 " * 900 + b'"}'] * 64) + b"]",
)
_CSV = (
    _filled(b"", _EMPTY_ROW + b"\n", b""),
    _filled(b"1", b"\n", b"1"),
    _filled(b"", b"1,", b"1"),
    _filled(_EMPTY_ROW + b"\n", b"1", b""),
    _filled(b"", b"\x0b", b"1"),
    _filled(b"", _EMPTY_ROW + b"\n", b"x"),
)


def _npy(shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


_ARRAYS = (
    _npy("(" + "0, " * 70 + ")"),
    _npy("(1" + "0" * 300 + ", 0)"),
    _npy("(4611686018427387904, 0, 4611686018427387904)"),
    _npy("(-1, True, 2.0)"),
    _npy(f"({IMAGE_SIDE}, {IMAGE_SIDE}, 3)"),
    _npy(f"(41, {IMAGE_SIDE}, {IMAGE_SIDE}, 3)", bytes(41 * IMAGE_SIDE**2 * 3)),
    _npy(f"({MAX_BODY_BYTES - 200},)", bytes(MAX_BODY_BYTES - 200)),
)


def save_models(folder: Path) -> None:
    """Write models that take much time or memory to load, each in the form of an extracted archive."""
    for name, content in {
        "deep": _deep_model(200_000),
        "arrays": b"[" + b"[]" * 2_000_000 + b"]",
        "no-ops": b"{" + b"N" * 4_000_000 + b"}",
        "json": b'{"learner":{"trees":[' + b"{}," * 1_000_000 + b"{}]}}",
    }.items():
        (folder / name / "model").mkdir(parents=True)
        (folder / name / "model" / "xgboost-model").write_bytes(content)


def _deep_model(depth: int) -> bytes:
    nodes = np.arange(2 * depth + 1)
    splits = (nodes % 2 == 0) & (nodes < 2 * depth)
    integers = {
        "left_children": np.where(splits, nodes + 1, -1),
        "right_children": np.where(splits, nodes + 2, -1),
        **{name: 0 * nodes for name in ("split_indices", "default_left", "split_type", "split_conditions")},
    }
    count = b"#l" + struct.pack(">i", len(nodes))
    arrays = {name: b"[$l" + count + array.astype(">i4").tobytes() for name, array in integers.items()}
    parameters = {"num_feature": _text(str(len(FEATURES))), "num_class": _text("0"), "base_score": _text("5E-1")}
    booster = {"name": _text("gbtree"), "model": _object({"trees": b"[#U\x01" + _object(arrays)})}
    learner = {
        "gradient_booster": _object(booster),
        "learner_model_param": _object(parameters),
        "objective": _object({"name": _text("binary:logistic")}),
    }
    return _object({"learner": _object(learner)})


def _object(members: dict[str, bytes]) -> bytes:
    return b"{" + b"".join(_text(name)[1:] + value for name, value in members.items()) + b"}"


def _text(text: str) -> bytes:
    return b"SU" + bytes([len(text)]) + text.encode()


def _multi_model(models: Path) -> st.SearchStrategy[Request]:
    loads = [
        Request("POST", "/models", (), f'{{"model_name":"{each.name}","url":"{each}/model"}}'.encode())
        for each in sorted(models.glob("*"))
    ]
    path = INVOCATIONS["tabular"]
    return st.sampled_from([*_posts(path, JSON, _ANY_JSON), *_posts(path, CSV, _CSV), *loads, *loads])


def _images(_models: Path) -> st.SearchStrategy[Request]:
    path = INVOCATIONS["saved_model"]
    return st.sampled_from([*_posts(path, JSON, _ANY_JSON), *_posts(path, NPY, _ARRAYS)])


def _questions(_models: Path) -> st.SearchStrategy[Request]:
    return st.sampled_from(_posts(INVOCATIONS["encoder"], JSON, (*_ANY_JSON, *_QUESTIONS)))


INVOCATIONS = {
    "encoder": "/invocations",
    "neuron_encoder": "/invocations",
    "saved_model": "/invocations",
    "tabular": "/models/CA/invoke",
}
"""Path of an invocation, by container."""
HOSTILE: dict[str, Callable[[Path], st.SearchStrategy[Request]]] = {
    "encoder": _questions,
    "neuron_encoder": _questions,
    "saved_model": _images,
    "tabular": _multi_model,
}
"""Hostile requests, by container, from the folder of `save_models`."""


def crowd(name: str) -> Request:
    """Return a largest-size request that is refused only after it was read, for many clients to send at once."""
    return _posts(INVOCATIONS[name], JSON, [_filled(b"{", b"\xff", b"}")])[0]


def _posts(path: str, kind: str, bodies: Sequence[bytes]) -> list[Request]:
    return [Request("POST", path, (("Content-Type", kind.encode()),), body) for body in bodies]
