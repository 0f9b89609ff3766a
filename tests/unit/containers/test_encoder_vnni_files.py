"""The engine vnni refuses files that do not fit each other with one line, before native code sees them."""

import ctypes
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from containers.encoder.engines import load_engine, vnni
from containers.encoder.engines.vnni import LIBRARY_FILE, VERSION, WEIGHTS_FILE, EncoderShape, VnniEngine
from containers.serving.errors import StartupError
from containers.serving.question_answering.windows import EncoderBatch
from tools.vnni_models import TINY, FloatBert, rewrite, runnable_library

_BERT = FloatBert.random(TINY)
HIDDEN, WORDS = TINY.hidden, TINY.words


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runnable_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def model(tmp_path: Path, library: Path) -> Path:
    return _BERT.save(tmp_path / "model", library)


def refused(model: Path) -> str:
    """The line that a start ends with."""
    with pytest.raises(StartupError) as raised:
        load_engine("vnni", model, 2)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_files_that_fit_each_other_are_served(model: Path) -> None:
    engine = load_engine("vnni", model, 2)

    start, end = engine.infer(EncoderBatch(*(np.ones((1, 8), dtype=np.int64) for _ in range(3))))

    assert np.isfinite([start, end]).all()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"heads": "0"}, "heads is 0: it must be 1 to 65536"),
        ({"heads": "3"}, "hidden is 64 for 3 heads"),
        ({"heads": "4"}, "each head must have 32 to 128 dimensions, a multiple of 32"),
        ({"heads": "64"}, "hidden is 64 for 64 heads"),
        ({"heads": "1", "hidden": "256"}, "hidden is 256 for 1 heads"),
        ({"hidden": "63"}, "hidden is 63 for 2 heads"),
        ({"hidden": "0"}, "hidden is 0: it must be 1 to 65536"),
        ({"hidden": "128"}, "words.weight is int8 of shape (97, 64), its metadata calls for int8 of shape (97, 128)"),
        ({"intermediate": "150"}, "intermediate is 150: it must be a multiple of 32"),
        ({"intermediate": "128"}, "layers.0.up.weight is int8 of shape (160, 64)"),
        ({"layers": "-1"}, "layers is '-1': it must be a whole number from 1 to 1024"),
        ({"layers": "0"}, "layers is 0: it must be 1 to 1024"),
        ({"layers": "2"}, "it has a tensor 'layers.2."),
        ({"layers": "4"}, "it has no tensor layers.3.query.weight"),
        ({"layers": "9223372036854775808"}, "layers is '9223372036854775808'"),
        ({"layers": "1" + "0" * 5000}, "layers is '1000"),
        ({"words": "98"}, "words.weight is int8 of shape (97, 64), its metadata calls for int8 of shape (98, 64)"),
        ({"words": "96"}, "words.weight is int8 of shape (97, 64)"),
        ({"words": "4294967296"}, "words is 4294967296: it must be 1 to 16777216"),
        ({"words": "16777216", "hidden": "65536", "heads": "512"}, "bytes of weights, more than 8589934592"),
        ({"positions": "81"}, "positions is float32 of shape (80, 64)"),
        ({"positions": "32769"}, "positions is 32769: it must be 1 to 32768"),
        ({"types": "3"}, "types is float32 of shape (2, 64)"),
        ({"types": "2.0"}, "types is '2.0': it must be a whole number"),
        ({"types": " 2"}, "types is ' 2': it must be a whole number"),
        ({"types": "٢"}, "types is '٢': it must be a whole number"),
        ({"types": ""}, "types is '': it must be a whole number"),
        ({"epsilon": "0"}, "epsilon is 0.0: it must be more than 0 and at most 1"),
        ({"epsilon": "-1e-12"}, "epsilon is -1e-12"),
        ({"epsilon": "1e-60"}, "epsilon is 1e-60"),
        ({"epsilon": "nan"}, "epsilon is nan"),
        ({"epsilon": "inf"}, "epsilon is inf"),
        ({"epsilon": "tiny"}, "epsilon is 'tiny': it must be a number"),
        ({"heads": None}, "its metadata has no heads"),
        ({"epsilon": None}, "its metadata has no epsilon"),
        ({each: None for each in TINY.to_metadata()}, "its metadata has no layers"),
    ],
)
def test_metadata_that_disagrees_with_the_tensors_or_the_kernels_is_refused(
    model: Path, metadata: Mapping[str, str | None], said: str
) -> None:
    rewrite(model, metadata=metadata)

    message = refused(model)

    assert said in message
    assert message.startswith(f"{WEIGHTS_FILE} cannot be served: ")
    assert message.endswith("rebuild the artifact with model_build")


def floats(*shape: int, of: float = 1.0) -> np.ndarray:
    return np.full(shape, of, dtype=np.float32)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"words.weight": np.zeros((WORDS - 1, HIDDEN), np.int8)}, "words.weight is int8 of shape (96, 64)"),
        ({"words.weight": np.zeros((WORDS, HIDDEN), np.uint8)}, "words.weight is U8 of shape (97, 64)"),
        ({"words.scale": floats(WORDS - 1)}, "words.scale is float32 of shape (96)"),
        ({"words.scale": floats(WORDS, of=np.inf)}, "words.scale has values that are not finite"),
        ({"words.scale": floats(WORDS, of=-1)}, "words.scale has values that are not positive"),
        ({"words.scale": floats(WORDS, of=0)}, "words.scale has values that are not positive"),
        ({"positions": floats(79, HIDDEN)}, "positions is float32 of shape (79, 64)"),
        ({"positions": floats(80, HIDDEN).astype(np.float64)}, "positions is F64 of shape (80, 64)"),
        ({"positions": floats(80, HIDDEN, of=np.nan)}, "positions has values that are not finite"),
        ({"types": floats(1, HIDDEN)}, "types is float32 of shape (1, 64)"),
        ({"types": None}, "it has no tensor types"),
        ({"embedded.gamma": floats(HIDDEN + 1)}, "embedded.gamma is float32 of shape (65)"),
        ({"head.weight": floats(1, HIDDEN)}, "head.weight is float32 of shape (1, 64)"),
        ({"head.bias": floats(1)}, "head.bias is float32 of shape (1)"),
        ({"head.bias": floats(2, 1)}, "head.bias is float32 of shape (2, 1)"),
        ({"head.bias": floats(2, of=np.nan)}, "head.bias has values that are not finite"),
        ({"layers.2.down.weight": np.zeros((HIDDEN, 159), np.int8)}, "layers.2.down.weight is int8 of shape (64, 159)"),
        ({"layers.1.key.weight": np.zeros((0, HIDDEN), np.int8)}, "layers.1.key.weight is int8 of shape (0, 64)"),
        ({"layers.1.key.scale": floats(0)}, "layers.1.key.scale is float32 of shape (0)"),
        ({"layers.1.up.bias": floats(HIDDEN)}, "layers.1.up.bias is float32 of shape (64)"),
        ({"layers.0.after_attention.beta": None}, "it has no tensor layers.0.after_attention.beta"),
        ({"surplus": floats(1)}, "it has a tensor 'surplus', which its metadata does not call for"),
    ],
)
def test_a_tensor_of_another_type_shape_or_value_is_refused(model: Path, tensors: Mapping[str, Any], said: str) -> None:
    rewrite(model, tensors=tensors)

    assert said in refused(model)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 20_000, -1])
def test_weights_that_are_cut_off_are_refused(model: Path, kept: int) -> None:
    whole = (model / WEIGHTS_FILE).read_bytes()
    (model / WEIGHTS_FILE).write_bytes(whole[:kept])

    assert "is not a safetensors file" in refused(model)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 60_000) + b'{"a":' * 12_000,
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_o',
        b"PK\x03\x04 a zip",
    ],
    ids=["largest-header", "large-header", "no-metadata", "null", "deep", "cut-off-header", "zip"],
)
def test_a_hostile_weights_file_is_refused(model: Path, content: bytes) -> None:
    (model / WEIGHTS_FILE).write_bytes(content)

    assert f"{WEIGHTS_FILE} cannot be served" in refused(model)


def test_a_missing_weights_file_or_library_is_refused(model: Path) -> None:
    (model / LIBRARY_FILE).unlink()
    assert f"{LIBRARY_FILE} is not in the model archive" in refused(model)
    (model / WEIGHTS_FILE).unlink()
    assert f"no {WEIGHTS_FILE} in the model archive" in refused(model)


def changed(library: Path, at: int, value: bytes) -> bytes:
    content = bytearray(library.read_bytes())
    content[at : at + len(value)] = value
    return bytes(content)


def test_a_library_for_another_processor_or_that_is_none_is_refused(model: Path, library: Path) -> None:
    for content, said in (
        (b"", "is not an ELF library"),
        (b"\x7fELF", "is not an ELF library"),
        (b"#!/bin/sh\n" * 20, "is not an ELF library"),
        (
            changed(library, 18, struct.pack("<H", 183)),
            "is not a library for 64-bit x86 (ELF class 2, byte order 1, type 3",
        ),
        (changed(library, 4, b"\x01"), "is not a library for 64-bit x86 (ELF class 1"),
        (changed(library, 5, b"\x02"), "is not a library for 64-bit x86 (ELF class 2, byte order 2"),
        (changed(library, 16, struct.pack("<H", 2)), "is not a library for 64-bit x86"),
        (changed(library, 32, struct.pack("<Q", 2**40)), "is damaged: it has no program headers"),
        (changed(library, 56, struct.pack("<H", 0)), "is damaged: it has no loadable or no dynamic segment"),
        (library.read_bytes()[:4096], "is truncated: it has 4096 bytes"),
        (library.read_bytes()[: library.stat().st_size // 2], "is truncated"),
    ):
        (model / LIBRARY_FILE).write_bytes(content)
        message = refused(model)
        assert message.startswith(f"{LIBRARY_FILE} {said}"), message


def compiled_c(folder: Path, source: str) -> Path:
    (folder / "other.c").write_text(source)
    library = folder / "other.so"
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-shared", "-nostdlib", "-o", str(library), str(folder / "other.c")],
        check=True,
    )
    return library


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("int other;", "has no encoder_abi_version, so another version built it"),
        (
            "int encoder_abi_version = 1; char encoder_instruction_set[16];",
            f"has version 1, this image runs version {VERSION}",
        ),
        (
            f'int encoder_abi_version = {VERSION}; char encoder_instruction_set[16] = "avx1024_magic";',
            "needs the instruction set avx1024_magic, which this processor does not offer",
        ),
        (f"int encoder_abi_version = {VERSION}; char encoder_instruction_set[16];", "has no function encoder_new"),
    ],
    ids=["no-version", "older", "instruction-set", "no-functions"],
)
def test_a_library_of_another_version_is_refused(model: Path, tmp_path: Path, source: str, said: str) -> None:
    shutil.copy(compiled_c(tmp_path, source), model / LIBRARY_FILE)

    assert said in refused(model)


def test_the_served_library_says_its_version_and_its_instruction_set(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))

    assert str(ctypes.c_int32.in_dll(loaded, "encoder_abi_version").value) == VERSION
    assert (ctypes.c_char * 16).in_dll(loaded, "encoder_instruction_set").value in (b"", b"avx512_vnni")


def test_a_tokenizer_or_a_window_larger_than_the_model_is_refused(model: Path) -> None:
    engine = load_engine("vnni", model, 1)
    assert isinstance(engine, VnniEngine)

    engine.check_fits(TINY.words, TINY.positions)
    with pytest.raises(StartupError, match=r"highest token id plus one is 98, model\.safetensors has 97 embeddings"):
        engine.check_fits(98, TINY.positions)
    with pytest.raises(StartupError, match=r"max_seq_length is 81, model\.safetensors has 80 embeddings"):
        engine.check_fits(TINY.words, 81)


def test_the_encoder_itself_refuses_shapes_ids_and_lengths_out_of_range(library: Path, model: Path) -> None:
    engine = load_engine("vnni", model, 2)
    assert isinstance(engine, VnniEngine)
    functions = vnni._library(library)
    for change in ({"heads": 0}, {"heads": 3}, {"hidden": 63}, {"layers": -1}, {"words": 2**40}, {"epsilon": 0.0}):
        sizes = {**{name: getattr(TINY, name) for name in EncoderShape.__dataclass_fields__}, **change}
        assert not functions.encoder_new(ctypes.byref(vnni._Shape(*sizes.values()))), change
    zeros, room = np.zeros(4, dtype=np.int32), np.empty(4, dtype=np.float32)
    for ids, types, lengths in (
        ([WORDS], [0], [1]),
        ([-1], [0], [1]),
        ([0], [2], [1]),
        ([0], [0], [81]),
        ([0], [0], [0]),
    ):
        given = (np.array([*each, *zeros], dtype=np.int32) for each in (ids, types, lengths))
        assert not functions.session_run(engine._session, *given, 1, room, room)
    assert not functions.session_run(engine._session, zeros, zeros, zeros + 1, 0, room, room)
    assert functions.session_run(engine._session, zeros, zeros, zeros + 1, 4, room, np.empty_like(room))
