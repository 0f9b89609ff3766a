"""The project's own encoder for AVX-512 VNNI, compiled by the build and carried in the archive.

Its activations are quantized token by token when they are computed and nothing is padded, so an answer does not depend
on what shares its batch, and no length has to be prepared.
"""

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

LIBRARY_FILE = "encoder.so"
WEIGHTS_FILE = "model.safetensors"
VERSION = "1"
"""Of the functions in the library and of the names of the weights; an archive of another one is refused."""
LINEARS = ("query", "key", "value", "attended", "up", "down")
"""Each with int8 `.weight` of shape (outputs, inputs), float32 `.scale` and `.bias` of shape (outputs,)."""
NORMALIZATIONS = ("after_attention", "after_feed_forward")
"""Each with float32 `.gamma` and `.beta` of shape (hidden,)."""
_NO_LAYER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """Sizes of a BERT encoder, and what its normalizations add to the variance; they stand with the weights."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    words: int
    positions: int
    types: int
    epsilon: float

    def to_metadata(self) -> dict[str, str]:
        """As safetensors keeps it."""
        return {name: repr(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "EncoderShape":
        """Reads what `to_metadata` gave."""
        sizes = {each.name: int(metadata[each.name]) for each in fields(cls) if each.name != "epsilon"}
        return cls(**sizes, epsilon=float(metadata["epsilon"]))


class _Shape(ctypes.Structure):
    _fields_ = [
        (each.name, ctypes.c_double if each.name == "epsilon" else ctypes.c_int64) for each in fields(EncoderShape)
    ]


def version() -> str:
    """Version of what this module and the library agree on."""
    return VERSION


def load(model_dir: Path, threads: int) -> "VnniEngine":
    """A session of so many threads, the caller's among them, on weights that every session of the archive shares.

    Raises MemoryError.
    """
    return VnniEngine(_encoder(model_dir), threads)


def load_lanes(model_dir: Path, cores: int) -> Sequence["VnniEngine"]:
    """A session of one thread for each core; raises MemoryError."""
    encoder = _encoder(model_dir)
    return [VnniEngine(encoder, 1) for _ in range(cores)]


@lru_cache(maxsize=1)
def _encoder(model_dir: Path) -> "_Encoder":
    return _Encoder(model_dir)


class _Encoder:
    """The loaded library and the weights in its memory."""

    def __init__(self, model_dir: Path) -> None:
        self.library = _library(model_dir / LIBRARY_FILE)
        with safe_open(model_dir / WEIGHTS_FILE, framework="numpy") as file:
            self.shape = EncoderShape.from_metadata(file.metadata())
            pointer = self.library.encoder_new(ctypes.byref(_Shape(*astuple(self.shape))))
            if not pointer:
                raise MemoryError("there is no memory for the encoder's weights")
            self.pointer = pointer
            weakref.finalize(self, self.library.encoder_free, pointer)
            self._fill(file)

    def _fill(self, file: Any) -> None:
        """Tensor by tensor, so that no second copy of all weights is ever there."""

        def given(*names: str) -> list[npt.NDArray[np.generic]]:
            return [np.ascontiguousarray(file.get_tensor(name)) for name in names]

        library = self.library
        library.encoder_embeddings(self.pointer, *given("words.weight", "words.scale", "positions", "types"))
        library.encoder_normalization(self.pointer, _NO_LAYER, 0, *given("embedded.gamma", "embedded.beta"))
        library.encoder_head(self.pointer, *given("head.weight", "head.bias"))
        for layer in range(self.shape.layers):
            for which, name in enumerate(LINEARS):
                parts = given(*(f"layers.{layer}.{name}.{part}" for part in ("weight", "scale", "bias")))
                library.encoder_linear(self.pointer, layer, which, *parts)
            for which, name in enumerate(NORMALIZATIONS):
                parts = given(*(f"layers.{layer}.{name}.{part}" for part in ("gamma", "beta")))
                library.encoder_normalization(self.pointer, layer, which, *parts)


class VnniEngine:
    """A session: its threads, and memory for what they compute."""

    packs = True

    def __init__(self, encoder: _Encoder, threads: int) -> None:
        self._encoder = encoder
        self._session = encoder.library.session_new(encoder.pointer, threads)
        if not self._session:
            raise MemoryError(f"there is no memory for a session of {threads} threads")
        weakref.finalize(self, encoder.library.session_free, self._session)

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Start and end logits, each float32 of shape (rows, tokens), 0 for padding.

        Raises ValueError for what the model has no embedding of, and MemoryError.
        """
        encoder, there = self._encoder, batch.attention_mask.astype(bool)
        lengths = there.sum(axis=1, dtype=np.int32)
        ids, types = batch.input_ids[there].astype(np.int32), batch.token_type_ids[there].astype(np.int32)
        for name, values, limit in (
            ("positions", lengths - 1, encoder.shape.positions),
            ("input_ids", ids, encoder.shape.words),
            ("token_type_ids", types, encoder.shape.types),
        ):
            if values.min() < 0 or values.max() >= limit:
                raise ValueError(f"{name}: {values.min()} to {values.max()} given, the model has 0 to {limit - 1}")
        logits = np.empty((2, len(ids)), dtype=np.float32)
        if not encoder.library.session_run(self._session, ids, types, lengths, len(lengths), logits[0], logits[1]):
            raise MemoryError(f"there is no memory for {len(ids)} tokens at once")
        start, end = (np.zeros(there.shape, dtype=np.float32) for _ in range(2))
        start[there], end[there] = logits
        return start, end


def _library(path: Path) -> ctypes.CDLL:
    """The functions of the archive's library, which let the GIL go while they run."""
    library = ctypes.CDLL(str(path))
    handle, number = ctypes.c_void_p, ctypes.c_int64
    floats, bytes_, ints = (
        np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS") for dtype in (np.float32, np.int8, np.int32)
    )
    for name, result, arguments in (
        ("encoder_new", handle, [ctypes.POINTER(_Shape)]),
        ("encoder_free", None, [handle]),
        ("encoder_embeddings", None, [handle, bytes_, floats, floats, floats]),
        ("encoder_normalization", None, [handle, number, number, floats, floats]),
        ("encoder_head", None, [handle, floats, floats]),
        ("encoder_linear", None, [handle, number, number, bytes_, floats, floats]),
        ("session_new", handle, [handle, number]),
        ("session_free", None, [handle]),
        ("session_run", ctypes.c_bool, [handle, ints, ints, ints, number, floats, floats]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
