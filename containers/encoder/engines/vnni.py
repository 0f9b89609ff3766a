"""The engine vnni: the project's own encoder for AVX-512 VNNI, compiled by the build and stored in the archive.

Activations are quantized per token at run time, and nothing is padded. So an answer does not depend on the rest of its
batch, and no length needs preparation.
"""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import astuple, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from containers.encoder.engines.elf import library_problem
from containers.encoder.engines.vnni_weights import (
    LINEARS,
    NORMALIZATIONS,
    WEIGHTS_FILE,
    EncoderShape,
    WeightsFile,
)
from containers.serving.cpu import instruction_sets
from containers.serving.errors import StartupError
from containers.serving.messages import one_line
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

__all__ = ["LIBRARY_FILE", "VERSION", "WEIGHTS_FILE", "EncoderShape", "VnniEngine", "load", "load_lanes", "version"]

LIBRARY_FILE = "encoder.so"
VERSION = "2"
"""Version of the library's functions and of the names of the weights; archives with another version are refused. The
library exports it as `encoder_abi_version`."""
_NO_LAYER = -1
_REBUILD = "rebuild the artifact with this image's version of model_build"


class _Shape(ctypes.Structure):
    _fields_ = [
        (each.name, ctypes.c_double if each.name == "epsilon" else ctypes.c_int64) for each in fields(EncoderShape)
    ]


def version() -> str:
    """Return the version of the interface between this module and the library."""
    return VERSION


def load(model_dir: Path, threads: int) -> "VnniEngine":
    """Open a session that computes on `threads` threads, including the caller's.

    All sessions of one archive share its weights. Raises StartupError for weights or a library that cannot be served,
    and MemoryError.
    """
    return VnniEngine(_encoder(model_dir), threads)


def load_lanes(model_dir: Path, cores: int) -> Sequence["VnniEngine"]:
    """Open one single-threaded session per core; raises as `load` does."""
    encoder = _encoder(model_dir)
    return [VnniEngine(encoder, 1) for _ in range(cores)]


@lru_cache(maxsize=1)
def _encoder(model_dir: Path) -> "_Encoder":
    return _Encoder(model_dir)


class _Encoder:
    """The loaded library and the weights in its memory."""

    def __init__(self, model_dir: Path) -> None:
        weights = WeightsFile(model_dir / WEIGHTS_FILE)
        self.library = _library(model_dir / LIBRARY_FILE)
        self.shape = weights.shape
        pointer = self.library.encoder_new(ctypes.byref(_Shape(*astuple(self.shape))))
        if not pointer:
            raise MemoryError(f"there is not enough memory for {self.shape.weight_bytes()} bytes of weights")
        self.pointer = pointer
        weakref.finalize(self, self.library.encoder_free, pointer)
        self._fill(weights)

    def _fill(self, weights: WeightsFile) -> None:
        """Copy the weights tensor by tensor, so memory never holds two copies of all of them."""
        library, given = self.library, weights.tensor
        library.encoder_embeddings(
            self.pointer, given("words.weight"), given("words.scale"), given("positions"), given("types")
        )
        library.encoder_normalization(self.pointer, _NO_LAYER, 0, given("embedded.gamma"), given("embedded.beta"))
        library.encoder_head(self.pointer, given("head.weight"), given("head.bias"))
        for layer in range(self.shape.layers):
            for which, name in enumerate(LINEARS):
                parts = (given(f"layers.{layer}.{name}.{part}") for part in ("weight", "scale", "bias"))
                library.encoder_linear(self.pointer, layer, which, *parts)
            for which, name in enumerate(NORMALIZATIONS):
                parts = (given(f"layers.{layer}.{name}.{part}") for part in ("gamma", "beta"))
                library.encoder_normalization(self.pointer, layer, which, *parts)


class VnniEngine:
    """A session: threads, and memory for their computations."""

    packs = True

    def __init__(self, encoder: _Encoder, threads: int) -> None:
        self._encoder = encoder
        self._session = encoder.library.session_new(encoder.pointer, threads)
        if not self._session:
            raise MemoryError(f"there is not enough memory for a session of {threads} threads")
        weakref.finalize(self, encoder.library.session_free, self._session)

    def check_fits(self, words: int, max_seq_length: int) -> None:
        """Raise StartupError if the model has fewer than `words` token ids or `max_seq_length` positions."""
        shape = self._encoder.shape
        for what, wanted, available in (
            ("the tokenizer's highest token id plus one", words, shape.words),
            ("max_seq_length", max_seq_length, shape.positions),
        ):
            if wanted > available:
                raise StartupError(f"{what} is {wanted}, {WEIGHTS_FILE} has {available} embeddings; {_REBUILD}")

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens), 0 for padding.

        Raises ValueError for an id or position without an embedding, and MemoryError.
        """
        encoder, mask = self._encoder, batch.attention_mask.astype(bool)
        lengths = mask.sum(axis=1, dtype=np.int32)
        ids, types = batch.input_ids[mask].astype(np.int32), batch.token_type_ids[mask].astype(np.int32)
        for name, values, limit in (
            ("positions", lengths - 1, encoder.shape.positions),
            ("input_ids", ids, encoder.shape.words),
            ("token_type_ids", types, encoder.shape.types),
        ):
            if values.min() < 0 or values.max() >= limit:
                raise ValueError(f"{name} are {values.min()} to {values.max()}, the model has 0 to {limit - 1}")
        logits = np.empty((2, len(ids)), dtype=np.float32)
        if not encoder.library.session_run(self._session, ids, types, lengths, len(lengths), logits[0], logits[1]):
            raise MemoryError(f"there is not enough memory for {len(ids)} tokens at once")
        start, end = (np.zeros(mask.shape, dtype=np.float32) for _ in range(2))
        start[mask], end[mask] = logits
        return start, end


def _library(path: Path) -> ctypes.CDLL:
    """Load the archive's library, whose functions release the GIL; raises StartupError."""
    if problem := library_problem(path):
        raise StartupError(f"{path.name} {problem}; upload the artifact again, or {_REBUILD}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise StartupError(f"{path.name} cannot be loaded ({one_line(error)}); {_REBUILD}") from error
    # These are data symbols, so none of the library's functions run before the versions are compared.
    try:
        abi_version = str(ctypes.c_int32.in_dll(library, "encoder_abi_version").value)
        instruction_set = (ctypes.c_char * 16).in_dll(library, "encoder_instruction_set").value.decode(errors="replace")
    except ValueError as error:
        raise StartupError(
            f"{path.name} has no encoder_abi_version, so another version built it; {_REBUILD}"
        ) from error
    if abi_version != VERSION:
        raise StartupError(f"{path.name} has version {abi_version}, this image runs version {VERSION}; {_REBUILD}")
    if instruction_set and instruction_set not in instruction_sets():
        raise StartupError(
            f"{path.name} needs the instruction set {instruction_set}, which this processor does not offer: use an "
            "instance type that has it (C6i or newer) or the fp32 artifact"
        )
    _declare(library, path.name)
    return library


def _declare(library: ctypes.CDLL, file: str) -> None:
    handle, number = ctypes.c_void_p, ctypes.c_int64
    floats, bytes_, ints = (
        np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS") for dtype in (np.float32, np.int8, np.int32)
    )
    for name, result, arguments in (
        ("encoder_new", handle, [ctypes.POINTER(_Shape)]),
        ("encoder_free", None, [handle]),
        ("encoder_embeddings", None, [handle, bytes_, floats, floats, floats]),
        ("encoder_normalization", ctypes.c_bool, [handle, number, number, floats, floats]),
        ("encoder_head", None, [handle, floats, floats]),
        ("encoder_linear", ctypes.c_bool, [handle, number, number, bytes_, floats, floats]),
        ("session_new", handle, [handle, number]),
        ("session_free", None, [handle]),
        ("session_run", ctypes.c_bool, [handle, ints, ints, ints, number, floats, floats]),
    ):
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise StartupError(f"{file} has no function {name}; {_REBUILD}") from error
        function.restype, function.argtypes = result, arguments
